// Circular line buffer of a convolution engine: where an input beat goes, and where the taps of a window lie.
#pragma once

#include "conv_shape.h"

namespace fsq {

template <typename CFG>
struct line_buffer {
    using shape = conv_shape<CFG>;
    static_assert(CFG::PAD_TOP <= CFG::K, "padding above beyond the kernel size would start windows before the first row");

    // K + STRIDE rows: the rows being read and the rows being written are never the same.
    static constexpr unsigned ROWS = CFG::K + CFG::STRIDE;
    // One memory a row when a fold holds a whole kernel column, and one a kernel column besides when it holds the whole kernel.
    static constexpr unsigned ROW_BANKS = shape::TAP_ROWS > 1 ? ROWS : 1;
    static constexpr unsigned COLUMN_BANKS = shape::TAP_COLUMNS;
    static constexpr unsigned BANK_COLUMNS = ceil_div(CFG::IW, COLUMN_BANKS);
    // Bank and address of column -PAD_LEFT: column x lies in bank x mod COLUMN_BANKS at x / COLUMN_BANKS, both rounded down.
    static constexpr unsigned FIRST_BANK = (COLUMN_BANKS - CFG::PAD_LEFT % COLUMN_BANKS) % COLUMN_BANKS;
    static constexpr unsigned FIRST_BASE = 0u - ceil_div(CFG::PAD_LEFT, COLUMN_BANKS);
    static constexpr unsigned BANK_WORDS = ROWS / ROW_BANKS * BANK_COLUMNS * shape::IC_FOLDS;

    // Input beats before the first output row, and beats that at most arrive during an output row.
    static constexpr unsigned FILL_ROWS = smaller(CFG::IH, CFG::K - CFG::PAD_TOP);
    static constexpr unsigned ROW_BEATS = CFG::IW * shape::IC_FOLDS;
    static constexpr unsigned STEP_BEATS = CFG::STRIDE * ROW_BEATS;
};

// Where the next input beat goes.
struct write_cursor {
    unsigned slot;    // row of the circular buffer
    unsigned row;     // input rows complete
    unsigned column;  // input column
    unsigned bank;    // its column bank
    unsigned base;    // its address in the bank, in columns
    unsigned fold;    // input-channel fold
};

template <typename CFG>
write_cursor next_write(write_cursor at) {
#pragma HLS INLINE
    using buffer = line_buffer<CFG>;
    if (++at.fold == conv_shape<CFG>::IC_FOLDS) {
        at.fold = 0;
        if (++at.bank == buffer::COLUMN_BANKS) {
            at.bank = 0;
            ++at.base;
        }
        if (++at.column == CFG::IW) {
            at.column = 0;
            at.bank = 0;
            at.base = 0;
            ++at.row;
            if (++at.slot == buffer::ROWS) {
                at.slot = 0;
            }
        }
    }
    return at;
}

// Address of (slot, column base, fold) in a bank; with one bank a row the slot selects the bank and not the address.
template <typename CFG>
unsigned bank_address(unsigned slot, unsigned base, unsigned fold) {
#pragma HLS INLINE
    using buffer = line_buffer<CFG>;
    const unsigned first = buffer::ROW_BANKS == 1 ? slot * buffer::BANK_COLUMNS : 0;
    return (first + base) * conv_shape<CFG>::IC_FOLDS + fold;
}

// An output pixel and where its window lies in the buffer.
struct window_position {
    unsigned row;     // output row
    unsigned column;  // output column
    unsigned slot;    // buffer row of the window's first row
    unsigned bank;    // column bank of the window's first column
    unsigned base;    // its address in the bank; one before the map wraps to a large number
};

// Rows further down by one output row.
template <typename CFG>
unsigned next_slot(unsigned slot) {
#pragma HLS INLINE
    return slot + CFG::STRIDE >= line_buffer<CFG>::ROWS ? slot + CFG::STRIDE - line_buffer<CFG>::ROWS : slot + CFG::STRIDE;
}

// The window of output pixel (row 0, column `column`).
template <typename CFG>
window_position first_position(unsigned column) {
#pragma HLS INLINE
    using buffer = line_buffer<CFG>;
    const unsigned from_first = buffer::FIRST_BANK + column * CFG::STRIDE;
    const window_position at = {0, column, CFG::PAD_TOP == 0 ? 0 : buffer::ROWS - CFG::PAD_TOP, from_first % buffer::COLUMN_BANKS,
                                buffer::FIRST_BASE + from_first / buffer::COLUMN_BANKS};
    return at;
}

// `STEP` output pixels further in the stream, at most a row.
template <typename CFG, unsigned STEP>
window_position next_position(window_position at) {
#pragma HLS INLINE
    using buffer = line_buffer<CFG>;
    at.column += STEP;
    if (at.column >= CFG::OW) {
        const unsigned row = at.row + 1;
        const unsigned slot = next_slot<CFG>(at.slot);
        at = first_position<CFG>(at.column - CFG::OW);
        at.row = row;
        at.slot = slot;
    } else {
        at.base += STEP * CFG::STRIDE / buffer::COLUMN_BANKS;
        at.bank += STEP * CFG::STRIDE % buffer::COLUMN_BANKS;
        if (at.bank >= buffer::COLUMN_BANKS) {
            at.bank -= buffer::COLUMN_BANKS;
            ++at.base;
        }
    }
    return at;
}

// One step of the work on a pixel: output-channel fold (outermost), kernel row, kernel column, input-channel fold.
struct fold_step {
    unsigned oc_fold;
    unsigned kh_fold;
    unsigned kw_fold;
    unsigned fold;
};

template <typename CFG>
fold_step next_step(fold_step at) {
#pragma HLS INLINE
    using shape = conv_shape<CFG>;
    if (++at.fold == shape::IC_FOLDS) {
        at.fold = 0;
        if (++at.kw_fold == shape::KW_FOLDS) {
            at.kw_fold = 0;
            if (++at.kh_fold == shape::KH_FOLDS) {
                at.kh_fold = 0;
                ++at.oc_fold;
            }
        }
    }
    return at;
}

// True when tap (tr, tc) of the step's fold is the window's centre, in the first output-channel fold: a 1x1 engine never waits for a later one.
template <typename CFG>
bool is_centre(const fold_step& step, unsigned tr, unsigned tc) {
#pragma HLS INLINE
    return step.oc_fold == 0 && step.kh_fold + tr == CFG::PAD_TOP && step.kw_fold + tc == CFG::PAD_LEFT;
}

// The taps of one fold of the window at `at`, tap = row * TAP_COLUMNS + column: every bank is read once.
template <typename CFG>
void read_taps(const typename conv_shape<CFG>::word_t (&rows)[line_buffer<CFG>::ROW_BANKS][line_buffer<CFG>::COLUMN_BANKS][line_buffer<CFG>::BANK_WORDS],
               const window_position& at, const fold_step& step, const int (&pad)[conv_shape<CFG>::IC_FOLDS][CFG::P_IC],
               typename conv_shape<CFG>::word_t (&taps)[CFG::P_K]) {
#pragma HLS INLINE
    using shape = conv_shape<CFG>;
    using buffer = line_buffer<CFG>;
    using word_t = typename shape::word_t;

    word_t banked[buffer::ROW_BANKS][buffer::COLUMN_BANKS];
#pragma HLS ARRAY_PARTITION variable=banked type=complete dim=0
    unsigned one_slot = at.slot + step.kh_fold;
    if (one_slot >= buffer::ROWS) {
        one_slot -= buffer::ROWS;
    }
READ_ROW:
    for (unsigned r = 0; r < buffer::ROW_BANKS; ++r) {
#pragma HLS UNROLL
    READ_COLUMN:
        for (unsigned c = 0; c < buffer::COLUMN_BANKS; ++c) {
#pragma HLS UNROLL
            // One bank holds every column; several hold every COLUMN_BANKS-th.
            const unsigned column = buffer::COLUMN_BANKS > 1 ? at.base + (c < at.bank ? 1 : 0) : at.column * CFG::STRIDE + step.kw_fold - CFG::PAD_LEFT;
            // Columns of padding lie outside the bank; they are replaced below.
            const unsigned inside = column < buffer::BANK_COLUMNS ? column : 0;
            banked[r][c] = rows[r][c][bank_address<CFG>(one_slot, inside, step.fold)];
        }
    }
TAP_ROW:
    for (unsigned tr = 0; tr < shape::TAP_ROWS; ++tr) {
#pragma HLS UNROLL
    TAP_COLUMN:
        for (unsigned tc = 0; tc < shape::TAP_COLUMNS; ++tc) {
#pragma HLS UNROLL
            // Rows and columns before the first wrap to large numbers and are outside as well.
            const unsigned row = at.row * CFG::STRIDE + step.kh_fold + tr - CFG::PAD_TOP;
            const unsigned column = at.column * CFG::STRIDE + step.kw_fold + tc - CFG::PAD_LEFT;
            const bool inside = row < CFG::IH && column < CFG::IW;
            unsigned slot = at.slot + tr;
            if (slot >= buffer::ROWS) {
                slot -= buffer::ROWS;
            }
            unsigned bank = at.bank + tc;
            if (bank >= buffer::COLUMN_BANKS) {
                bank -= buffer::COLUMN_BANKS;
            }
            word_t word = banked[buffer::ROW_BANKS == 1 ? 0 : slot][buffer::COLUMN_BANKS == 1 ? 0 : bank];
        LANE:
            for (unsigned i = 0; i < CFG::P_IC; ++i) {
#pragma HLS UNROLL
                if (!inside) {
                    word.lane[i] = pad[step.fold][i];
                }
            }
            taps[tr * shape::TAP_COLUMNS + tc] = word;
        }
    }
}

// A word into every copy of the buffer.
template <typename CFG>
void write_copies(typename conv_shape<CFG>::word_t (&rows)[CFG::P_PX][line_buffer<CFG>::ROW_BANKS][line_buffer<CFG>::COLUMN_BANKS]
                                                          [line_buffer<CFG>::BANK_WORDS],
                  const write_cursor& at, const typename conv_shape<CFG>::word_t& word) {
#pragma HLS INLINE
COPY:
    for (unsigned px = 0; px < CFG::P_PX; ++px) {
#pragma HLS UNROLL
        rows[px][line_buffer<CFG>::ROW_BANKS == 1 ? 0 : at.slot][at.bank][bank_address<CFG>(at.slot, at.base, at.fold)] = word;
    }
}

// True when the centre tap of every window is the pixel itself.
template <typename CFG>
constexpr bool has_centre_pixel() {
    return CFG::STRIDE == 1 && CFG::OH == CFG::IH && CFG::OW == CFG::IW && CFG::PAD_TOP < CFG::K && CFG::PAD_LEFT < CFG::K;
}

// Receives the centre tap's words when nothing uses them.
struct no_centre {};

template <typename WORD>
void send_centre(no_centre&, const WORD&) {
#pragma HLS INLINE
}

template <typename WORD>
void send_centre(hls::stream<WORD>& centre, const WORD& word) {
#pragma HLS INLINE
    centre.write(word);
}

}  // namespace fsq
