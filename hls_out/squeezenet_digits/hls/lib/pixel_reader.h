// Reader of an unpadded 1x1 engine with stride 1: a pixel (a group of P_PX pixels) is kept and read again for each fold of output channels.
#pragma once

#include "conv_shape.h"

namespace fsq {

template <typename CFG>
void pixel_reader(hls::stream<typename conv_shape<CFG>::group_t>& in, hls::stream<typename conv_shape<CFG>::window_t>& windows) {
#pragma HLS INLINE
    using shape = conv_shape<CFG>;
    using group_t = typename shape::group_t;
    static_assert(CFG::K == 1 && CFG::STRIDE == 1 && CFG::PAD_TOP == 0 && CFG::PAD_LEFT == 0, "only for an unpadded 1x1 kernel with stride 1");
    static_assert(CFG::OH == CFG::IH && CFG::OW == CFG::IW, "an unpadded 1x1 kernel keeps the map's size");

    group_t pixel[shape::IC_FOLDS];
#pragma HLS AGGREGATE variable=pixel compact=bit
    // Read in the cycle after it was written when a pixel is one word.
#pragma HLS BIND_STORAGE variable=pixel type=ram_s2p impl=lutram

GROUP:
    for (unsigned g = 0; g < shape::GROUPS; ++g) {
    OUTPUT_FOLD:
        for (unsigned oc_fold = 0; oc_fold < shape::OC_FOLDS; ++oc_fold) {
        INPUT_FOLD:
            for (unsigned fold = 0; fold < shape::IC_FOLDS; ++fold) {
                // Flushing, so that finished windows leave while the input waits.
#pragma HLS PIPELINE II=1 style=flp
                group_t word;
#pragma HLS AGGREGATE variable=word compact=bit
                if (oc_fold == 0) {
                    word = in.read();
                    pixel[fold] = word;
                } else {
                    word = pixel[fold];
                }
                windows.write(word);
            }
        }
    }
}

}  // namespace fsq
