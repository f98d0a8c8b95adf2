// Multipliers, accumulators and requantizers of a convolution engine: P_OC x P_IC x P_K products a cycle.
#pragma once

#include <type_traits>

#include "conv_shape.h"
#include "packed.h"
#include "requantize.h"

namespace fsq {

// Takes the windows of one frame and sends ceil(OC / P_OC) beats a pixel, one for every FOLDS windows.
//
// Row (oc_fold * FOLDS + fold) of `weights` holds, in lane (o * P_K + tap) * P_IC + channel, the weights that meet the window of that step; row
// oc_fold of `bias` and `shift` holds one field an output channel (the shift as its distance from SHIFT_MIN).
template <typename CFG>
void mvu(hls::stream<typename conv_shape<CFG>::window_t>& windows, hls::stream<typename conv_shape<CFG>::result_t>& out,
         const unsigned char (&weights)[conv_shape<CFG>::WEIGHT_ROWS][conv_shape<CFG>::WEIGHT_ROW_BYTES],
         const unsigned char (&bias)[conv_shape<CFG>::OC_FOLDS][conv_shape<CFG>::BIAS_ROW_BYTES],
         const unsigned char (&shift)[conv_shape<CFG>::OC_FOLDS][conv_shape<CFG>::SHIFT_ROW_BYTES]) {
#pragma HLS INLINE
    using shape = conv_shape<CFG>;
    using window_t = typename shape::window_t;
    using result_t = typename shape::result_t;
    constexpr unsigned LANES = shape::WINDOW_LANES;
    // A plain integer that holds the products of one cycle; synthesis trims it to the accumulator's width.
    constexpr unsigned SUM_BITS = CFG::WEIGHT_BITS + CFG::in_t::width + log2_ceil(LANES);
    using sum_t = typename std::conditional<(SUM_BITS < 32), int, long long>::type;

    ap_int<CFG::ACC_BITS> acc[CFG::P_OC];
    // All output channels of a fold accumulate in the same cycle.
#pragma HLS ARRAY_PARTITION variable=acc type=complete

PIXEL:
    for (unsigned p = 0; p < CFG::OH * CFG::OW; ++p) {
    OUTPUT_FOLD:
        for (unsigned oc_fold = 0; oc_fold < shape::OC_FOLDS; ++oc_fold) {
        FOLD:
            for (unsigned fold = 0; fold < shape::FOLDS; ++fold) {
                // The only value carried from step to step is an integer sum. Flushing, so that results leave while the windows wait.
#pragma HLS PIPELINE II=1 style=flp
                window_t window = windows.read();
#pragma HLS AGGREGATE variable=window compact=bit
                result_t result;
#pragma HLS AGGREGATE variable=result compact=bit
                const unsigned row = oc_fold * shape::FOLDS + fold;
                sum_t x[LANES];
#pragma HLS ARRAY_PARTITION variable=x type=complete
            ACTIVATION:
                for (unsigned i = 0; i < LANES; ++i) {
#pragma HLS UNROLL
                    x[i] = window.lane[i].to_int();
                }
            CHANNEL:
                for (unsigned o = 0; o < CFG::P_OC; ++o) {
#pragma HLS UNROLL
                    sum_t sum = 0;
                PRODUCT:
                    for (unsigned i = 0; i < LANES; ++i) {
#pragma HLS UNROLL
                        sum += static_cast<sum_t>(signed_field<CFG::WEIGHT_BITS>(weights[row], o * LANES + i)) * x[i];
                    }
                    const long long before = fold == 0 ? static_cast<long long>(signed_field<CFG::BIAS_BITS>(bias[oc_fold], o)) : acc[o].to_int64();
                    acc[o] = before + sum;
                    if (fold + 1 == shape::FOLDS) {
                        const int delta = CFG::SHIFT_BITS == 0 ? 0 : static_cast<int>(unsigned_field<larger(1, CFG::SHIFT_BITS)>(shift[oc_fold], o));
                        result.lane[o] = requantize<CFG>(acc[o], CFG::SHIFT_MIN + delta);
                    }
                }
                if (fold + 1 == shape::FOLDS) {
                    out.write(result);
                }
            }
        }
    }
}

}  // namespace fsq
