// Multipliers, accumulators and requantizers of a convolution engine: P_OC x P_IC x P_K x P_PX products a cycle.
#pragma once

#include "dot_products.h"
#include "requantize.h"

namespace fsq {

// Takes the windows of one frame and sends ceil(OC / P_OC) beats a group of P_PX pixels, one for every FOLDS windows.
//
// Row (oc_fold * FOLDS + fold) of `weights` holds, in lane (o * P_K + tap) * P_IC + channel, the weights that meet the window of that step; row
// oc_fold of `bias` and `shift` holds one field an output channel (the shift as its distance from SHIFT_MIN). `weights` is the memory of these rows, or a
// reader that decodes them (weight_reader.h); rows are asked for in order, all of them for every group.
template <typename CFG, typename WEIGHTS>
void mvu(hls::stream<typename conv_shape<CFG>::window_t>& windows, hls::stream<typename conv_shape<CFG>::result_group_t>& out,
         WEIGHTS& weights,
         const unsigned char (&bias)[conv_shape<CFG>::OC_FOLDS][conv_shape<CFG>::BIAS_ROW_BYTES],
         const unsigned char (&shift)[conv_shape<CFG>::OC_FOLDS][conv_shape<CFG>::SHIFT_ROW_BYTES]) {
#pragma HLS INLINE
    using shape = conv_shape<CFG>;
    using window_t = typename shape::window_t;
    using result_t = typename shape::result_group_t;
    using sum_t = step_sum<CFG>;
    constexpr unsigned LANES = shape::WINDOW_LANES;

    ap_int<CFG::ACC_BITS> acc[CFG::P_PX][CFG::P_OC];
    // All output channels of a fold, of all pixels, accumulate in the same cycle.
#pragma HLS ARRAY_PARTITION variable=acc type=complete dim=0

GROUP:
    for (unsigned g = 0; g < shape::GROUPS; ++g) {
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
                sum_t x[CFG::P_PX][LANES];
#pragma HLS ARRAY_PARTITION variable=x type=complete dim=0
            ACTIVATIONS:
                for (unsigned px = 0; px < CFG::P_PX; ++px) {
#pragma HLS UNROLL
                ACTIVATION:
                    for (unsigned i = 0; i < LANES; ++i) {
#pragma HLS UNROLL
                        x[px][i] = shape::in_lane::get(window.lane[i], px).to_int();
                    }
                }
                sum_t sums[CFG::P_PX][CFG::P_OC];
#pragma HLS ARRAY_PARTITION variable=sums type=complete dim=0
                dot_products<CFG, CFG::PACKING>::multiply(x, weights[oc_fold * shape::FOLDS + fold], sums);
            CHANNEL:
                for (unsigned o = 0; o < CFG::P_OC; ++o) {
#pragma HLS UNROLL
                    const long long first = signed_field<CFG::BIAS_BITS>(bias[oc_fold], o);
                    const int delta = CFG::SHIFT_BITS == 0 ? 0 : static_cast<int>(unsigned_field<larger(1, CFG::SHIFT_BITS)>(shift[oc_fold], o));
                PIXEL:
                    for (unsigned px = 0; px < CFG::P_PX; ++px) {
#pragma HLS UNROLL
                        const long long before = fold == 0 ? first : static_cast<long long>(acc[px][o].to_int64());
                        acc[px][o] = before + sums[px][o];
                        if (fold + 1 == shape::FOLDS) {
                            shape::out_lane::set(result.lane[o], px, requantize<CFG>(acc[px][o], CFG::SHIFT_MIN + delta));
                        }
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
