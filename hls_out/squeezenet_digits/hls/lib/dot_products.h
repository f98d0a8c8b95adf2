// The products of one step: P_PX x P_OC sums of WINDOW_LANES products, plain or two to a multiplier.
#pragma once

#include <type_traits>

#include "conv_shape.h"
#include "mvu_pair.h"
#include "packed.h"

namespace fsq {

constexpr unsigned PACK_NONE = 0;
constexpr unsigned PACK_CHANNELS = 1;
constexpr unsigned PACK_PIXELS = 2;

// A plain integer that holds the sums of one step; synthesis trims it to the accumulator's width.
template <typename CFG>
using step_sum = typename std::conditional<(CFG::WEIGHT_BITS + CFG::in_t::width + log2_ceil(conv_shape<CFG>::WINDOW_LANES) < 32), int, long long>::type;

// One multiplier a product: output channel o of pixel px.
template <typename CFG>
step_sum<CFG> dot_product(const step_sum<CFG> (&x)[conv_shape<CFG>::WINDOW_LANES], const unsigned char (&weights)[conv_shape<CFG>::WEIGHT_ROW_BYTES],
                          unsigned o) {
#pragma HLS INLINE
    constexpr unsigned LANES = conv_shape<CFG>::WINDOW_LANES;
    step_sum<CFG> sum = 0;
PRODUCT:
    for (unsigned i = 0; i < LANES; ++i) {
#pragma HLS UNROLL
        sum += static_cast<step_sum<CFG>>(signed_field<CFG::WEIGHT_BITS>(weights, o * LANES + i)) * x[i];
    }
    return sum;
}

// Every channel and pixel for itself.
template <typename CFG, unsigned PACKING>
struct dot_products {
    static_assert(PACKING == PACK_NONE, "products are packed by channels, by pixels or not at all");
    using shape = conv_shape<CFG>;
    using sum_t = step_sum<CFG>;

    static void multiply(const sum_t (&x)[CFG::P_PX][shape::WINDOW_LANES], const unsigned char (&weights)[shape::WEIGHT_ROW_BYTES],
                         sum_t (&sums)[CFG::P_PX][CFG::P_OC]) {
#pragma HLS INLINE
    CHANNEL:
        for (unsigned o = 0; o < CFG::P_OC; ++o) {
#pragma HLS UNROLL
        PIXEL:
            for (unsigned px = 0; px < CFG::P_PX; ++px) {
#pragma HLS UNROLL
                sums[px][o] = dot_product<CFG>(x[px], weights, o);
            }
        }
    }
};

// What a pair of either kind needs.
template <typename CFG>
struct pair_shape {
    static constexpr unsigned ACT_BITS = CFG::in_t::width;
    static constexpr unsigned PRODUCT_BITS = CFG::WEIGHT_BITS + ACT_BITS;
    static constexpr int OFFSET = 1 << (CFG::WEIGHT_BITS - 1);  // of offset binary
    static_assert(CFG::IN_SIGNED == 0, "packed products need activations that are not negative");
    static_assert(CFG::WEIGHT_BITS <= 8 && ACT_BITS <= 8, "packed products take weights and activations of at most 8 bits");
    static_assert(CFG::PACK_SHIFT >= 8, "the low operand must end below the high one");
};

// The sum of one pixel's activations, times the offset.
template <typename CFG>
int pixel_offset(const step_sum<CFG> (&x)[conv_shape<CFG>::WINDOW_LANES]) {
#pragma HLS INLINE
    constexpr unsigned LANES = conv_shape<CFG>::WINDOW_LANES;
    int sum = 0;
ACTIVATION:
    for (unsigned i = 0; i < LANES; ++i) {
#pragma HLS UNROLL
        sum += x[i];
    }
    return sum * pair_shape<CFG>::OFFSET;
}

// Channels 2j and 2j + 1 of a pixel share a multiplier; an odd last channel has its own.
template <typename CFG>
struct dot_products<CFG, PACK_CHANNELS> {
    using shape = conv_shape<CFG>;
    using pair = pair_shape<CFG>;
    using sum_t = step_sum<CFG>;

    static void multiply(const sum_t (&x)[CFG::P_PX][shape::WINDOW_LANES], const unsigned char (&weights)[shape::WEIGHT_ROW_BYTES],
                         sum_t (&sums)[CFG::P_PX][CFG::P_OC]) {
#pragma HLS INLINE
        constexpr unsigned LANES = shape::WINDOW_LANES;
    PIXEL:
        for (unsigned px = 0; px < CFG::P_PX; ++px) {
#pragma HLS UNROLL
            const int offset = pixel_offset<CFG>(x[px]);
        CHANNELS:
            for (unsigned o = 0; o + 1 < CFG::P_OC; o += 2) {
#pragma HLS UNROLL
                int low[LANES];
                int high[LANES];
                int shared[LANES];
#pragma HLS ARRAY_PARTITION variable=low type=complete
#pragma HLS ARRAY_PARTITION variable=high type=complete
#pragma HLS ARRAY_PARTITION variable=shared type=complete
            OPERAND:
                for (unsigned i = 0; i < LANES; ++i) {
#pragma HLS UNROLL
                    low[i] = signed_field<CFG::WEIGHT_BITS>(weights, o * LANES + i) + pair::OFFSET;
                    high[i] = signed_field<CFG::WEIGHT_BITS>(weights, (o + 1) * LANES + i);
                    shared[i] = x[px][i];
                }
                const pair_sums both = multiply_pairs<LANES, CFG::PACK_SHIFT, pair::PRODUCT_BITS, CFG::PACK_SHIFT + CFG::WEIGHT_BITS, pair::ACT_BITS>(
                    high, low, shared);
                sums[px][o] = static_cast<sum_t>(both.lo - offset);
                sums[px][o + 1] = static_cast<sum_t>(both.hi);
            }
            if (CFG::P_OC % 2 == 1) {
                sums[px][CFG::P_OC - 1] = dot_product<CFG>(x[px], weights, CFG::P_OC - 1);
            }
        }
    }
};

// Pixels 2j and 2j + 1 of a group share a multiplier; an odd last pixel has its own.
template <typename CFG>
struct dot_products<CFG, PACK_PIXELS> {
    using shape = conv_shape<CFG>;
    using pair = pair_shape<CFG>;
    using sum_t = step_sum<CFG>;

    static void multiply(const sum_t (&x)[CFG::P_PX][shape::WINDOW_LANES], const unsigned char (&weights)[shape::WEIGHT_ROW_BYTES],
                         sum_t (&sums)[CFG::P_PX][CFG::P_OC]) {
#pragma HLS INLINE
        constexpr unsigned LANES = shape::WINDOW_LANES;
    PIXELS:
        for (unsigned px = 0; px + 1 < CFG::P_PX; px += 2) {
#pragma HLS UNROLL
            const int low_offset = pixel_offset<CFG>(x[px]);
            const int high_offset = pixel_offset<CFG>(x[px + 1]);
        CHANNEL:
            for (unsigned o = 0; o < CFG::P_OC; ++o) {
#pragma HLS UNROLL
                int low[LANES];
                int high[LANES];
                int shared[LANES];
#pragma HLS ARRAY_PARTITION variable=low type=complete
#pragma HLS ARRAY_PARTITION variable=high type=complete
#pragma HLS ARRAY_PARTITION variable=shared type=complete
            OPERAND:
                for (unsigned i = 0; i < LANES; ++i) {
#pragma HLS UNROLL
                    low[i] = x[px][i];
                    high[i] = x[px + 1][i];
                    shared[i] = signed_field<CFG::WEIGHT_BITS>(weights, o * LANES + i) + pair::OFFSET;
                }
                const pair_sums both = multiply_pairs<LANES, CFG::PACK_SHIFT, pair::PRODUCT_BITS, CFG::PACK_SHIFT + pair::ACT_BITS + 1, CFG::WEIGHT_BITS>(
                    high, low, shared);
                sums[px][o] = static_cast<sum_t>(both.lo - low_offset);
                sums[px + 1][o] = static_cast<sum_t>(both.hi - high_offset);
            }
        }
        if (CFG::P_PX % 2 == 1) {
        LAST_PIXEL:
            for (unsigned o = 0; o < CFG::P_OC; ++o) {
#pragma HLS UNROLL
                sums[CFG::P_PX - 1][o] = dot_product<CFG>(x[CFG::P_PX - 1], weights, o);
            }
        }
    }
};

}  // namespace fsq
