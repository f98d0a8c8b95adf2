// Groups of P_PX pixels that follow each other in the stream, across a row's end too: an engine works on a group at a time, and its pixels share every
// weight that is read. A frame's last group may be short; what the engine makes of the pixels it lacks is dropped.
#pragma once

#include "conv_shape.h"

namespace fsq {

// Pixels of one input frame into groups: the words of P_PX pixels come one pixel after the other and leave side by side, once the last one comes in.
// One word a cycle. While one group is collected, the one before lies in the FIFO behind and is multiplied.
template <typename CFG>
void gather_pixels(hls::stream<typename conv_shape<CFG>::word_t>& in, hls::stream<typename conv_shape<CFG>::group_t>& groups) {
#pragma HLS INLINE
    using shape = conv_shape<CFG>;
    using lane = typename shape::in_lane;
    using group_t = typename shape::group_t;
    constexpr unsigned PIXELS = CFG::IH * CFG::IW;
    static_assert(CFG::P_PX > 1, "a single pixel needs no group");

    // The pixels before a group's last one.
    typename shape::word_t collected[CFG::P_PX - 1][shape::IC_FOLDS];
#pragma HLS AGGREGATE variable=collected compact=bit
    // A memory a pixel: a word is written whole, never read, changed and written again.
#pragma HLS ARRAY_PARTITION variable=collected type=complete dim=1
    // Read in the cycle after it was written when a pixel is one word.
#pragma HLS BIND_STORAGE variable=collected type=ram_s2p impl=lutram
    unsigned px = 0;  // pixel of the group
PIXEL:
    for (unsigned p = 0; p < PIXELS; ++p) {
    INPUT_FOLD:
        for (unsigned fold = 0; fold < shape::IC_FOLDS; ++fold) {
            // Flushing, so that groups leave while the input waits.
#pragma HLS PIPELINE II=1 style=flp
            const typename shape::word_t word = in.read();
            group_t group;
#pragma HLS AGGREGATE variable=group compact=bit
        EARLIER:
            for (unsigned n = 0; n + 1 < CFG::P_PX; ++n) {
#pragma HLS UNROLL
                if (n == px) {
                    collected[n][fold] = word;
                }
                const typename shape::word_t earlier = collected[n][fold];
            EARLIER_LANE:
                for (unsigned i = 0; i < CFG::P_IC; ++i) {
#pragma HLS UNROLL
                    lane::set(group.lane[i], n, earlier.lane[i]);
                }
            }
        LANE:
            for (unsigned i = 0; i < CFG::P_IC; ++i) {
#pragma HLS UNROLL
                lane::set(group.lane[i], CFG::P_PX - 1, word.lane[i]);
            }
            if (px + 1 == CFG::P_PX || p + 1 == PIXELS) {
                groups.write(group);
            }
            if (fold + 1 == shape::IC_FOLDS) {
                px = px + 1 == CFG::P_PX ? 0 : px + 1;
            }
        }
    }
}

// Results of one frame into stream order: the groups come OC_FOLDS beats each and leave pixel by pixel, OC_FOLDS beats a pixel. One beat a cycle.
// A group's first pixel leaves as it comes in, so all of a group leaves without anything of the next one. While a group leaves, the next one gathers
// in the FIFO in front: FIFO and memory are used in turns.
template <typename CFG>
void order_pixels(hls::stream<typename conv_shape<CFG>::result_group_t>& groups, hls::stream<typename conv_shape<CFG>::result_t>& out) {
#pragma HLS INLINE
    using shape = conv_shape<CFG>;
    using lane = typename shape::out_lane;
    using group_t = typename shape::result_group_t;

    group_t held[shape::OC_FOLDS];
#pragma HLS AGGREGATE variable=held compact=bit
    // Read in the cycle after it was written when a pixel is one beat.
#pragma HLS BIND_STORAGE variable=held type=ram_s2p impl=lutram
    unsigned px = 0;  // pixel of the group
PIXEL:
    for (unsigned p = 0; p < CFG::OH * CFG::OW; ++p) {
    OUTPUT_FOLD:
        for (unsigned oc_fold = 0; oc_fold < shape::OC_FOLDS; ++oc_fold) {
            // Flushing, so that results leave while the groups wait.
#pragma HLS PIPELINE II=1 style=flp
            group_t group;
#pragma HLS AGGREGATE variable=group compact=bit
            if (px == 0) {
                group = groups.read();
                held[oc_fold] = group;
            } else {
                group = held[oc_fold];
            }
            typename shape::result_t result;
#pragma HLS AGGREGATE variable=result compact=bit
        LANE:
            for (unsigned o = 0; o < CFG::P_OC; ++o) {
#pragma HLS UNROLL
                result.lane[o] = lane::get(group.lane[o], px);
            }
            out.write(result);
            if (oc_fold + 1 == shape::OC_FOLDS) {
                px = px + 1 == CFG::P_PX ? 0 : px + 1;
            }
        }
    }
}

}  // namespace fsq
