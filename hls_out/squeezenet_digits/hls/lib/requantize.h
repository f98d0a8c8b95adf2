// Accumulator to activation: clamp(round_half_even(acc * 2^-shift), QMIN, QMAX).
#pragma once

#include "beat.h"

namespace fsq {

// `shift` lies in SHIFT_MIN..SHIFT_MAX; a negative shift multiplies, exactly.
template <typename CFG>
typename CFG::out_t requantize(ap_int<CFG::ACC_BITS> acc, int shift) {
#pragma HLS INLINE
    static_assert(CFG::SHIFT_MIN <= CFG::SHIFT_MAX, "the range of shifts must not be empty");
    constexpr int LEFT_MAX = CFG::SHIFT_MIN < 0 ? -CFG::SHIFT_MIN : 0;
    constexpr int RIGHT_MAX = CFG::SHIFT_MAX > 0 ? CFG::SHIFT_MAX : 0;
    constexpr int ACC_BITS = CFG::ACC_BITS;
    // Holds the left-shifted accumulator, the accumulator plus half a step of the largest right shift, and the output's limits.
    constexpr int SUM_BITS = (ACC_BITS > RIGHT_MAX ? ACC_BITS : RIGHT_MAX) + LEFT_MAX + 2;
    constexpr int WIDE_BITS = SUM_BITS > 18 ? SUM_BITS : 18;
    using wide_t = ap_int<WIDE_BITS>;

    const wide_t value = acc;
    wide_t scaled = value;
    if (RIGHT_MAX > 0 && shift > 0) {
        const wide_t one = 1;
        const wide_t half_less_one = (one << (shift - 1)) - one;
        const wide_t tie = (value >> shift) & one;  // an odd result rounds a tie up, an even one down
        scaled = (value + half_less_one + tie) >> shift;
    } else if (LEFT_MAX > 0 && shift < 0) {
        scaled = value << -shift;
    }
    const wide_t low = CFG::QMIN;
    const wide_t high = CFG::QMAX;
    return scaled < low ? low : (scaled > high ? high : scaled);
}

}  // namespace fsq
