// Where a bypass meets the main branch: sum of two streams, aligned exactly and requantized.
#pragma once

#include "beat.h"
#include "requantize.h"

namespace fsq {

// A configuration CFG is a generated struct of constants: C, PIXELS, LANES, ALIGN_MAIN and ALIGN_BYPASS (left shifts to the common fraction), ACC_BITS
// (holds every sum), SHIFT_MIN = SHIFT_MAX (right shift to the output's fraction), QMIN, QMAX and the types main_t, bypass_t and out_t.
template <typename CFG>
struct add_shape {
    using main_word = beat<typename CFG::main_t, CFG::LANES>;
    using bypass_word = beat<typename CFG::bypass_t, CFG::LANES>;
    using out_word = beat<typename CFG::out_t, CFG::LANES>;
    static_assert(CFG::C % CFG::LANES == 0, "a padded lane would be rounded for nothing");
    static constexpr unsigned BEATS = CFG::PIXELS * (CFG::C / CFG::LANES);
};

// One frame, a beat a cycle.
template <typename CFG>
void add(hls::stream<typename add_shape<CFG>::main_word>& main, hls::stream<typename add_shape<CFG>::bypass_word>& bypass,
         hls::stream<typename add_shape<CFG>::out_word>& out) {
    using shape = add_shape<CFG>;
BEAT:
    for (unsigned b = 0; b < shape::BEATS; ++b) {
        // Flushing, so that sums leave while the main branch waits.
#pragma HLS PIPELINE II=1 style=flp
        const typename shape::main_word first = main.read();
        const typename shape::bypass_word second = bypass.read();
        typename shape::out_word result;
#pragma HLS AGGREGATE variable=result compact=bit
    LANE:
        for (unsigned i = 0; i < CFG::LANES; ++i) {
#pragma HLS UNROLL
            const ap_int<CFG::ACC_BITS> a = first.lane[i];
            const ap_int<CFG::ACC_BITS> b_value = second.lane[i];
            const ap_int<CFG::ACC_BITS> sum = (a << CFG::ALIGN_MAIN) + (b_value << CFG::ALIGN_BYPASS);
            result.lane[i] = requantize<CFG>(sum, CFG::SHIFT_MIN);
        }
        out.write(result);
    }
}

}  // namespace fsq
