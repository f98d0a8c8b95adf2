// Sizes of a convolution engine that follow from its configuration.
//
// A configuration CFG is a generated struct of constants: IC, IH, IW (input), OC, OH, OW (output), K, STRIDE, PAD_TOP, PAD_LEFT, the fold P_OC,
// P_IC, P_K, P_PX, the widths WEIGHT_BITS, BIAS_BITS, ACC_BITS, SHIFT_BITS, the shift range SHIFT_MIN..SHIFT_MAX, the output range QMIN..QMAX, how
// products share multipliers (PACKING, PACK_SHIFT; mvu_pair.h), and the lane types in_t and out_t.
#pragma once

#include "beat.h"

namespace fsq {

// One channel of P_PX pixels: pixel px at bits px * T::width upward. With one pixel it is the channel itself.
template <typename T, unsigned P_PX>
struct pixel_lane {
    using type = ap_uint<P_PX * T::width>;

    static T get(const type& lane, unsigned px) {
#pragma HLS INLINE
        const T value = lane.range(px * T::width + T::width - 1, px * T::width);
        return value;
    }

    static void set(type& lane, unsigned px, const T& value) {
#pragma HLS INLINE
        const ap_uint<T::width> bits = value;
        lane.range(px * T::width + T::width - 1, px * T::width) = bits;
    }
};

template <typename T>
struct pixel_lane<T, 1> {
    using type = T;

    static T get(const type& lane, unsigned) {
#pragma HLS INLINE
        return lane;
    }

    static void set(type& lane, unsigned, const T& value) {
#pragma HLS INLINE
        lane = value;
    }
};

template <typename CFG>
struct conv_shape {
    static constexpr unsigned OC_FOLDS = ceil_div(CFG::OC, CFG::P_OC);
    static constexpr unsigned IC_FOLDS = ceil_div(CFG::IC, CFG::P_IC);

    // A fold of taps is TAP_ROWS x TAP_COLUMNS: one tap, one kernel column, or the whole kernel.
    static constexpr unsigned TAP_ROWS = CFG::P_K == 1 ? 1 : CFG::K;
    static constexpr unsigned TAP_COLUMNS = CFG::P_K == CFG::K * CFG::K ? CFG::K : 1;
    static_assert(TAP_ROWS * TAP_COLUMNS == CFG::P_K, "P_K must be 1, K or K * K");
    static constexpr unsigned KH_FOLDS = CFG::K / TAP_ROWS;
    static constexpr unsigned KW_FOLDS = CFG::K / TAP_COLUMNS;
    static_assert(KH_FOLDS * TAP_ROWS == CFG::K, "the tap rows of a fold must divide the kernel");
    static_assert(KW_FOLDS * TAP_COLUMNS == CFG::K, "the tap columns of a fold must divide the kernel");
    static constexpr unsigned FOLDS = KH_FOLDS * KW_FOLDS * IC_FOLDS;  // steps to one output beat
    static constexpr unsigned WINDOW_LANES = CFG::P_K * CFG::P_IC;
    static constexpr unsigned GROUPS = ceil_div(CFG::OH * CFG::OW, CFG::P_PX);  // the last one may be short
    static_assert(CFG::P_PX >= 1 && CFG::P_PX <= CFG::OW, "a group of pixels must not be longer than a row: it then lies in two rows at most");

    static constexpr unsigned WEIGHT_ROWS = OC_FOLDS * FOLDS;
    static constexpr unsigned WEIGHT_ROW_BYTES = ceil_div(CFG::P_OC * WINDOW_LANES * CFG::WEIGHT_BITS, 8);
    static constexpr unsigned BIAS_ROW_BYTES = ceil_div(CFG::P_OC * CFG::BIAS_BITS, 8);
    static constexpr unsigned SHIFT_ROW_BYTES = larger(1, ceil_div(CFG::P_OC * CFG::SHIFT_BITS, 8));

    // On the links a beat belongs to one pixel; inside the engine a lane holds the same channel of P_PX pixels.
    using in_lane = pixel_lane<typename CFG::in_t, CFG::P_PX>;
    using out_lane = pixel_lane<typename CFG::out_t, CFG::P_PX>;
    using word_t = beat<typename CFG::in_t, CFG::P_IC>;               // P_IC channels of an input pixel
    using group_t = beat<typename in_lane::type, CFG::P_IC>;          // ... of P_PX pixels
    using window_t = beat<typename in_lane::type, WINDOW_LANES>;      // P_K taps of P_IC channels, lane = tap * P_IC + channel
    using result_t = beat<typename CFG::out_t, CFG::P_OC>;            // P_OC channels of an output pixel
    using result_group_t = beat<typename out_lane::type, CFG::P_OC>;  // ... of P_PX pixels
};

}  // namespace fsq
