// Two products in one hardware multiplier: ((hi << SHIFT) + lo) * shared = (hi * shared << SHIFT) + lo * shared.
//
// The low product is kept non-negative, so that the fields do not borrow from each other: the weight in question is taken in offset binary,
// w + 2^(WEIGHT_BITS-1), which is its bits with the highest one flipped, and 2^(WEIGHT_BITS-1) * sum(x) is subtracted from the sum, once a pixel.
//   PACK_CHANNELS: hi and lo are the weights of two output channels (hi signed, lo offset binary), shared is their activation.
//   PACK_PIXELS:   hi and lo are activations of two pixels, shared is their weight (offset binary); the offset is in both sums.
// The low product needs P = weight + activation bits. With SHIFT >= P, 2^(SHIFT - P) products are added before the fields are taken apart. With
// SHIFT < P (ports of 18 bits) the fields overlap by P - SHIFT bits, and that many low bits of hi * shared are computed in logic and subtracted.
#pragma once

#include "beat.h"

namespace fsq {

struct pair_sums {
    long long hi;
    long long lo;
};

// Sums of hi * shared and lo * shared over LANES lanes, P = PRODUCT_BITS; lo and shared are not negative. hi << SHIFT and lo together have WIDE_BITS,
// the multiplier's wide port; shared has SHARED_BITS and a sign bit of zero, its narrow port.
template <unsigned LANES, unsigned SHIFT, unsigned PRODUCT_BITS, unsigned WIDE_BITS, unsigned SHARED_BITS>
pair_sums multiply_pairs(const int (&hi)[LANES], const int (&lo)[LANES], const int (&shared)[LANES]) {
#pragma HLS INLINE
    constexpr unsigned OVERLAP = SHIFT < PRODUCT_BITS ? PRODUCT_BITS - SHIFT : 0;
    constexpr unsigned SUMMED = SHIFT > PRODUCT_BITS ? 1u << smaller(SHIFT - PRODUCT_BITS, log2_ceil(LANES)) : 1;  // products added while packed
    constexpr long long LOW_MASK = (1LL << SHIFT) - 1;
    constexpr int OVERLAP_MASK = (1 << OVERLAP) - 1;
    pair_sums sums = {0, 0};
GROUP:
    for (unsigned first = 0; first < LANES; first += SUMMED) {
#pragma HLS UNROLL
        long long packed = 0;
        int over_low = 0;  // the bits of hi * shared that the low product covers
    PAIR:
        for (unsigned n = 0; n < SUMMED; ++n) {
#pragma HLS UNROLL
            if (first + n < LANES) {
                const ap_int<WIDE_BITS> high = hi[first + n];
                const ap_int<WIDE_BITS> wide = (high << SHIFT) + ap_int<WIDE_BITS>(lo[first + n]);
                const ap_int<SHARED_BITS + 1> operand = shared[first + n];
                const ap_int<WIDE_BITS + SHARED_BITS> product = wide * operand;
                // The one multiplier of the pair.
#pragma HLS BIND_OP variable=product op=mul impl=dsp
                packed += product.to_int64();
                if (OVERLAP > 0) {
                    const int low_product = (hi[first + n] & OVERLAP_MASK) * (shared[first + n] & OVERLAP_MASK);
                    // A few bits: a second DSP would undo the packing.
#pragma HLS BIND_OP variable=low_product op=mul impl=fabric
                    over_low = low_product & OVERLAP_MASK;
                }
            }
        }
        // First the low field, by what of the high one lies over it; then the high one by what the low one carries.
        const long long over = ((packed >> SHIFT) - over_low) & OVERLAP_MASK;
        const long long low = (over << SHIFT) | (packed & LOW_MASK);
        sums.lo += low;
        sums.hi += (packed - low) >> SHIFT;
    }
    return sums;
}

}  // namespace fsq
