// Streaming max pool: one input beat a cycle, ceil(K / STRIDE) rows of partial maxima instead of K rows of the map.
#pragma once

#include "beat.h"

namespace fsq {

// A configuration CFG is a generated struct of constants: C, IH, IW, OH, OW, K, STRIDE, PAD_TOP, PAD_LEFT, LANES, LOWEST (the smallest value of the
// format) and the lane type value_t.
template <typename CFG>
struct pool_shape {
    using word_t = beat<typename CFG::value_t, CFG::LANES>;
    static_assert(CFG::PAD_TOP < CFG::K && CFG::PAD_LEFT < CFG::K, "every window must reach the map");
    static constexpr unsigned FOLDS = ceil_div(CFG::C, CFG::LANES);
    // Windows that overlap one position, along one axis.
    static constexpr unsigned OPEN = ceil_div(CFG::K, CFG::STRIDE);
    // The positions walked: the map, the padding before it, and whatever the last window needs beyond it.
    static constexpr unsigned WALK_H = larger(CFG::IH + CFG::PAD_TOP, (CFG::OH - 1) * CFG::STRIDE + CFG::K);
    static constexpr unsigned WALK_W = larger(CFG::IW + CFG::PAD_LEFT, (CFG::OW - 1) * CFG::STRIDE + CFG::K);
};

template <typename WORD, unsigned LANES>
WORD maximum(const WORD& a, const WORD& b) {
#pragma HLS INLINE
    WORD result;
LANE:
    for (unsigned i = 0; i < LANES; ++i) {
#pragma HLS UNROLL
        result.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    }
    return result;
}

// Position of a walk along one axis, relative to the windows: those that start at `first_start`, one STRIDE earlier, and so on are open.
struct window_phase {
    unsigned newest;  // window that opened last
    unsigned offset;  // positions since it opened
};

template <unsigned STRIDE>
window_phase next_phase(window_phase at) {
#pragma HLS INLINE
    if (++at.offset == STRIDE) {
        at.offset = 0;
        ++at.newest;
    }
    return at;
}

// Maxima of one frame. Positions of padding hold the lowest value, which never wins against the map.
template <typename CFG>
void max_pool(hls::stream<typename pool_shape<CFG>::word_t>& in, hls::stream<typename pool_shape<CFG>::word_t>& out) {
    using shape = pool_shape<CFG>;
    using word_t = typename shape::word_t;
    constexpr unsigned OPEN = shape::OPEN;

    // Slot w % OPEN holds the maximum so far of the open window w: along the row, and of whole rows.
    word_t along[OPEN][shape::FOLDS];
#pragma HLS AGGREGATE variable=along compact=bit
    // Registers: with few folds a partial maximum is needed again in the next cycle.
#pragma HLS ARRAY_PARTITION variable=along type=complete dim=0
    word_t down[OPEN][CFG::OW * shape::FOLDS];
#pragma HLS AGGREGATE variable=down compact=bit
    // All open windows are updated in the same cycle.
#pragma HLS ARRAY_PARTITION variable=down type=complete dim=1

    word_t lowest;
#pragma HLS AGGREGATE variable=lowest compact=bit
LOWEST:
    for (unsigned i = 0; i < CFG::LANES; ++i) {
#pragma HLS UNROLL
        lowest.lane[i] = CFG::LOWEST;
    }

    window_phase row = {0, 0};
    unsigned row_slot = 0;  // row.newest % OPEN
ROW:
    for (unsigned h = 0; h < shape::WALK_H; ++h) {
        window_phase column = {0, 0};
        unsigned column_slot = 0;  // column.newest % OPEN
    COLUMN:
        for (unsigned w = 0; w < shape::WALK_W; ++w) {
        FOLD:
            for (unsigned fold = 0; fold < shape::FOLDS; ++fold) {
                // Flushing, so that results leave while the input waits.
#pragma HLS PIPELINE II=1 style=flp
                // A partial row is touched again one row later, after this loop has drained.
#pragma HLS DEPENDENCE variable=down type=inter dependent=false
                word_t value = lowest;
#pragma HLS AGGREGATE variable=value compact=bit
                if (h >= CFG::PAD_TOP && h < CFG::PAD_TOP + CFG::IH && w >= CFG::PAD_LEFT && w < CFG::PAD_LEFT + CFG::IW) {
                    value = in.read();
                }

                word_t closed = lowest;  // maximum along the row of the window that ends at this column
#pragma HLS AGGREGATE variable=closed compact=bit
                bool closes = false;
                unsigned closed_column = 0;
            ALONG:
                for (unsigned age = 0; age < OPEN; ++age) {
#pragma HLS UNROLL
                    const unsigned slot = column_slot >= age ? column_slot - age : column_slot + OPEN - age;
                    const unsigned offset = column.offset + age * CFG::STRIDE;
                    if (column.newest >= age && offset < CFG::K) {
                        const word_t so_far = offset == 0 ? value : maximum<word_t, CFG::LANES>(along[slot][fold], value);
                        along[slot][fold] = so_far;
                        if (offset + 1 == CFG::K && column.newest - age < CFG::OW) {
                            closes = true;
                            closed = so_far;
                            closed_column = column.newest - age;
                        }
                    }
                }

                word_t result = lowest;
#pragma HLS AGGREGATE variable=result compact=bit
                bool done = false;
                if (closes) {
                DOWN:
                    for (unsigned age = 0; age < OPEN; ++age) {
#pragma HLS UNROLL
                        const unsigned slot = row_slot >= age ? row_slot - age : row_slot + OPEN - age;
                        const unsigned offset = row.offset + age * CFG::STRIDE;
                        const unsigned address = closed_column * shape::FOLDS + fold;
                        if (row.newest >= age && offset < CFG::K) {
                            const word_t so_far = offset == 0 ? closed : maximum<word_t, CFG::LANES>(down[slot][address], closed);
                            down[slot][address] = so_far;
                            if (offset + 1 == CFG::K && row.newest - age < CFG::OH) {
                                done = true;
                                result = so_far;
                            }
                        }
                    }
                }
                if (done) {
                    out.write(result);
                }

                if (fold + 1 == shape::FOLDS) {
                    column = next_phase<CFG::STRIDE>(column);
                    if (column.offset == 0) {
                        column_slot = column_slot + 1 == OPEN ? 0 : column_slot + 1;
                    }
                }
            }
        }
        row = next_phase<CFG::STRIDE>(row);
        if (row.offset == 0) {
            row_slot = row_slot + 1 == OPEN ? 0 : row_slot + 1;
        }
    }
}

}  // namespace fsq
