// Fields of any width out of memory rows stored as plain bytes.
//
// A row is one wide memory word, lowest byte and lowest bit first. Every index below is a constant once its loop is unrolled, so that a field is
// wiring in hardware. Rows are bytes instead of ap_int constants because a compiler reads a million bytes in a second, ap_int constants in minutes.
#pragma once

#include <type_traits>

namespace fsq {

// Bytes a field of BITS bits can touch; whole bytes are aligned and touch no neighbour.
constexpr unsigned field_span(unsigned bits) { return bits % 8 == 0 ? bits / 8 : (bits + 14) / 8; }

// Narrow fields are handled in 32 bits, wide ones in 64: the compiler then keeps the narrow ones in vector registers of a C simulation.
template <unsigned BITS>
using field_raw = typename std::conditional<field_span(BITS) <= 4, unsigned, unsigned long long>::type;

template <unsigned BITS>
using field_value = typename std::conditional<field_span(BITS) <= 4, int, long long>::type;

// The bits of field `index`, zero-extended.
template <unsigned BITS, unsigned BYTES>
field_raw<BITS> unsigned_field(const unsigned char (&row)[BYTES], unsigned index) {
#pragma HLS INLINE
    static_assert(BITS >= 1 && BITS <= 56, "a packed field is 1 to 56 bits wide");
    using raw_t = field_raw<BITS>;
    const unsigned first = index * BITS / 8;
    raw_t raw = 0;
GATHER:
    for (unsigned b = 0; b < field_span(BITS); ++b) {
#pragma HLS UNROLL
        if (first + b < BYTES) {
            raw |= static_cast<raw_t>(row[first + b]) << (8 * b);
        }
    }
    return (raw >> (index * BITS % 8)) & ((static_cast<raw_t>(1) << (BITS - 1) << 1) - 1);
}

// The bits of field `index`, sign-extended.
template <unsigned BITS, unsigned BYTES>
field_value<BITS> signed_field(const unsigned char (&row)[BYTES], unsigned index) {
#pragma HLS INLINE
    using raw_t = field_raw<BITS>;
    constexpr unsigned UP = sizeof(raw_t) * 8 - BITS;
    return static_cast<field_value<BITS>>(unsigned_field<BITS>(row, index) << UP) >> UP;
}

}  // namespace fsq
