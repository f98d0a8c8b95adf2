// Exact sum of every channel over the map; the mean is a constant factor that no ranking needs.
#pragma once

#include "beat.h"

namespace fsq {

// A configuration CFG is a generated struct of constants: C, PIXELS, LANES and the types value_t and sum_t.
template <typename CFG>
struct sum_shape {
    using word_t = beat<typename CFG::value_t, CFG::LANES>;
    using result_t = beat<typename CFG::sum_t, 1>;
    static constexpr unsigned FOLDS = ceil_div(CFG::C, CFG::LANES);
};

// Sends the C sums of a frame, one a beat.
template <typename CFG>
void send_sums(const typename CFG::sum_t (&sums)[sum_shape<CFG>::FOLDS][CFG::LANES], hls::stream<typename sum_shape<CFG>::result_t>& out) {
#pragma HLS INLINE
    unsigned lane = 0;
    unsigned fold = 0;
SEND:
    for (unsigned c = 0; c < CFG::C; ++c) {
#pragma HLS PIPELINE II=1
        typename sum_shape<CFG>::result_t result;
        result.lane[0] = sums[fold][lane];
        out.write(result);
        if (++lane == CFG::LANES) {
            lane = 0;
            ++fold;
        }
    }
}

// Few folds: the sums are registers, because the same one is needed again within a cycle or two.
template <typename CFG>
void global_sum_in_registers(hls::stream<typename sum_shape<CFG>::word_t>& in, hls::stream<typename sum_shape<CFG>::result_t>& out) {
    using shape = sum_shape<CFG>;
    typename CFG::sum_t sums[shape::FOLDS][CFG::LANES];
#pragma HLS ARRAY_PARTITION variable=sums type=complete dim=0
PIXEL:
    for (unsigned p = 0; p < CFG::PIXELS; ++p) {
    FOLD:
        for (unsigned fold = 0; fold < shape::FOLDS; ++fold) {
#pragma HLS PIPELINE II=1
            const typename shape::word_t word = in.read();
        LANE:
            for (unsigned i = 0; i < CFG::LANES; ++i) {
#pragma HLS UNROLL
                const typename CFG::sum_t before = p == 0 ? typename CFG::sum_t(0) : sums[fold][i];
                sums[fold][i] = before + word.lane[i];
            }
        }
    }
    send_sums<CFG>(sums, out);
}

// Many folds: one memory a lane.
template <typename CFG>
void global_sum_in_memory(hls::stream<typename sum_shape<CFG>::word_t>& in, hls::stream<typename sum_shape<CFG>::result_t>& out) {
    using shape = sum_shape<CFG>;
    static_assert(shape::FOLDS > 8, "with few folds the memory could not return a sum in time");
    typename CFG::sum_t sums[shape::FOLDS][CFG::LANES];
#pragma HLS ARRAY_PARTITION variable=sums type=complete dim=2
PIXEL:
    for (unsigned p = 0; p < CFG::PIXELS; ++p) {
    FOLD:
        for (unsigned fold = 0; fold < shape::FOLDS; ++fold) {
#pragma HLS PIPELINE II=1
            // A sum is needed again FOLDS cycles later, longer than the memory and the adder take.
#pragma HLS DEPENDENCE variable=sums type=inter dependent=false
            const typename shape::word_t word = in.read();
        LANE:
            for (unsigned i = 0; i < CFG::LANES; ++i) {
#pragma HLS UNROLL
                const typename CFG::sum_t before = p == 0 ? typename CFG::sum_t(0) : sums[fold][i];
                sums[fold][i] = before + word.lane[i];
            }
        }
    }
    send_sums<CFG>(sums, out);
}

}  // namespace fsq
