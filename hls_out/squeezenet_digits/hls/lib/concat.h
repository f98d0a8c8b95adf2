// Channel concatenation of two branches of equal lanes.
#pragma once

#include "beat.h"

namespace fsq {

// Per pixel: FIRST channels of `first`, then SECOND channels of `second`. One beat a cycle.
template <typename WORD, unsigned LANES, unsigned FIRST, unsigned SECOND, unsigned PIXELS>
void concat(hls::stream<WORD>& first, hls::stream<WORD>& second, hls::stream<WORD>& out) {
    static_assert(FIRST % LANES == 0, "the first branch must fill its beats: the second one starts in a beat of its own");
    constexpr unsigned FIRST_BEATS = FIRST / LANES;
    constexpr unsigned BEATS = FIRST_BEATS + ceil_div(SECOND, LANES);
PIXEL:
    for (unsigned p = 0; p < PIXELS; ++p) {
    BEAT:
        for (unsigned b = 0; b < BEATS; ++b) {
            // Flushing, so that a beat of one branch leaves while the other branch waits.
#pragma HLS PIPELINE II=1 style=flp
            if (b < FIRST_BEATS) {
                out.write(first.read());
            } else {
                out.write(second.read());
            }
        }
    }
}

}  // namespace fsq
