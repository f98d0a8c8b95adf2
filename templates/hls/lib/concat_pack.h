// Channel concatenation of the main branch and a bypass, any numbers of channels, packed to full beats.
#pragma once

#include "beat.h"

namespace fsq {

// A configuration CFG is a generated struct of constants: MAIN and BYPASS (channels of either operand), PIXELS, LANES, and the lane type value_t.
template <typename CFG>
using concat_word = beat<typename CFG::value_t, CFG::LANES>;

// The first COUNT lanes of a beat, zeros behind them.
template <typename T, unsigned LANES, unsigned COUNT>
beat<T, LANES> first_lanes(const beat<T, LANES>& word) {
#pragma HLS INLINE
    beat<T, LANES> result;
LANE:
    for (unsigned i = 0; i < LANES; ++i) {
#pragma HLS UNROLL
        result.lane[i] = i < COUNT ? word.lane[i] : T(0);
    }
    return result;
}

// One frame: per pixel FIRST channels of `first`, then SECOND channels of `second`, a beat a cycle. The first operand's last beat may be partly filled: the
// second one's channels begin in the lane behind, each of its beats split between two. EARLY: the first beat of `second` is taken before a pixel begins.
template <typename CFG, unsigned FIRST, unsigned SECOND, bool EARLY>
void concat_packed(hls::stream<concat_word<CFG>>& first, hls::stream<concat_word<CFG>>& second, hls::stream<concat_word<CFG>>& out) {
    using value_t = typename CFG::value_t;
    using word_t = concat_word<CFG>;
    constexpr unsigned LANES = CFG::LANES;
    static_assert(LANES <= FIRST + SECOND, "a beat of more lanes than channels has lanes that are never used");
    constexpr unsigned WHOLE = FIRST / LANES;  // full beats of the first operand
    constexpr unsigned REST = FIRST % LANES;   // its channels in the beat that both share
    constexpr unsigned SECOND_BEATS = ceil_div(SECOND, LANES);
    constexpr unsigned SECOND_LAST = SECOND - (SECOND_BEATS - 1) * LANES;  // channels of the second operand's last beat
    constexpr unsigned BEATS = ceil_div(FIRST + SECOND, LANES);
    word_t held;  // the second operand's lanes that found no room
#pragma HLS AGGREGATE variable=held compact=bit
    word_t taken;  // the second operand's first beat, when it is taken early
#pragma HLS AGGREGATE variable=taken compact=bit
PIXEL:
    for (unsigned p = 0; p < CFG::PIXELS; ++p) {
    BEAT:
        for (unsigned b = 0; b < BEATS; ++b) {
            // Flushing, so that a beat of one operand leaves while the other one waits.
#pragma HLS PIPELINE II=1 style=flp
            if (EARLY && b == 0) {
                taken = second.read();
            }
            word_t front;  // what stands before the second operand's lanes
#pragma HLS AGGREGATE variable=front compact=bit
            if (b < WHOLE) {
                front = first.read();
            } else if (b == WHOLE && REST > 0) {
                front = first_lanes<value_t, LANES, REST>(first.read());
            } else {
                front = first_lanes<value_t, LANES, REST>(held);
            }
            word_t back = first_lanes<value_t, LANES, 0>(front);
#pragma HLS AGGREGATE variable=back compact=bit
            if (b >= WHOLE && b < WHOLE + SECOND_BEATS) {
                back = EARLY && b == WHOLE ? taken : second.read();
                if (b + 1 == WHOLE + SECOND_BEATS) {
                    back = first_lanes<value_t, LANES, SECOND_LAST>(back);
                }
            }
            word_t result;
#pragma HLS AGGREGATE variable=result compact=bit
        LANE:
            for (unsigned i = 0; i < LANES; ++i) {
#pragma HLS UNROLL
                result.lane[i] = b < WHOLE || i < REST ? front.lane[i] : back.lane[i - REST];
                held.lane[i] = i < REST ? back.lane[i + LANES - REST] : value_t(0);
            }
            out.write(result);
        }
    }
}

// The main branch's channels, then those of the bypass.
template <typename CFG>
void concat_main_first(hls::stream<concat_word<CFG>>& main, hls::stream<concat_word<CFG>>& bypass, hls::stream<concat_word<CFG>>& out) {
#pragma HLS INLINE
    concat_packed<CFG, CFG::MAIN, CFG::BYPASS, false>(main, bypass, out);
}

// The channels of the bypass, then those of the main branch, whose first beat begins the pixel.
template <typename CFG>
void concat_bypass_first(hls::stream<concat_word<CFG>>& main, hls::stream<concat_word<CFG>>& bypass, hls::stream<concat_word<CFG>>& out) {
#pragma HLS INLINE
    concat_packed<CFG, CFG::BYPASS, CFG::MAIN, true>(bypass, main, out);
}

}  // namespace fsq
