// Line buffer and read sequencer of a convolution engine.
//
// Takes the input map once, in stream order, and sends the activations of every output pixel in the order in which the multipliers use them:
// output-channel fold, kernel row, kernel column, input-channel fold (innermost), P_K x P_IC activations a beat. The buffer is read again for each
// fold of output channels; no window is ever copied. While one output row is read, the STRIDE rows that the next one needs are written.
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

// `centre` takes the tap at (PAD_TOP, PAD_LEFT) once per output pixel, word by word: the pixel itself, for a 1x1 convolution beside this one.
template <typename CFG, typename CENTRE>
void read_windows(hls::stream<typename conv_shape<CFG>::word_t>& in, hls::stream<typename conv_shape<CFG>::window_t>& windows,
                  CENTRE& centre, const int (&pad)[conv_shape<CFG>::IC_FOLDS][CFG::P_IC]) {
#pragma HLS INLINE
    using shape = conv_shape<CFG>;
    using buffer = line_buffer<CFG>;
    using word_t = typename shape::word_t;
    using window_t = typename shape::window_t;

    word_t rows[buffer::ROW_BANKS][buffer::COLUMN_BANKS][buffer::BANK_WORDS];
    // A word is read and written whole.
#pragma HLS AGGREGATE variable=rows compact=bit
    // Every bank is a memory of its own: all taps of a fold are read in one cycle.
#pragma HLS ARRAY_PARTITION variable=rows type=complete dim=1
#pragma HLS ARRAY_PARTITION variable=rows type=complete dim=2

    write_cursor at = {0, 0, 0, 0, 0, 0};

FILL:
    for (unsigned i = 0; i < buffer::FILL_ROWS * buffer::ROW_BEATS; ++i) {
#pragma HLS PIPELINE II=1 style=flp
        rows[buffer::ROW_BANKS == 1 ? 0 : at.slot][at.bank][bank_address<CFG>(at.slot, at.base, at.fold)] = in.read();
        at = next_write<CFG>(at);
    }

    unsigned top_slot = CFG::PAD_TOP == 0 ? 0 : buffer::ROWS - CFG::PAD_TOP;  // slot of the window's first row
ROW:
    for (unsigned oh = 0; oh < CFG::OH; ++oh) {
        // Rows that may be complete when this output row is done.
        const unsigned row_limit = smaller(CFG::IH, CFG::K - CFG::PAD_TOP + (oh + 1) * CFG::STRIDE);
        // Column bank and address of the window's first column; an address before the map wraps to a large number.
        unsigned phase = buffer::FIRST_BANK;
        unsigned base = buffer::FIRST_BASE;
    COLUMN:
        for (unsigned ow = 0; ow < CFG::OW; ++ow) {
        OUTPUT_FOLD:
            for (unsigned oc_fold = 0; oc_fold < shape::OC_FOLDS; ++oc_fold) {
            KERNEL_ROW:
                for (unsigned kh_fold = 0; kh_fold < shape::KH_FOLDS; ++kh_fold) {
                KERNEL_COLUMN:
                    for (unsigned kw_fold = 0; kw_fold < shape::KW_FOLDS; ++kw_fold) {
                    INPUT_FOLD:
                        for (unsigned fold = 0; fold < shape::IC_FOLDS; ++fold) {
                            // Flushing, so that finished windows leave while the input waits.
#pragma HLS PIPELINE II=1 style=flp
                            // The rows written during an output row are first read in the next one, after this loop has drained.
#pragma HLS DEPENDENCE variable=rows type=inter dependent=false
                            // Take a beat whenever one waits: bursts of the producer are absorbed by the free rows.
                            if (at.row < row_limit && !in.empty()) {
                                rows[buffer::ROW_BANKS == 1 ? 0 : at.slot][at.bank][bank_address<CFG>(at.slot, at.base, at.fold)] = in.read();
                                at = next_write<CFG>(at);
                            }

                            word_t banked[buffer::ROW_BANKS][buffer::COLUMN_BANKS];
#pragma HLS ARRAY_PARTITION variable=banked type=complete dim=0
                            unsigned one_slot = top_slot + kh_fold;
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
                                    const unsigned column = buffer::COLUMN_BANKS > 1 ? base + (c < phase ? 1 : 0)
                                                                                     : ow * CFG::STRIDE + kw_fold - CFG::PAD_LEFT;
                                    // Columns of padding lie outside the bank; they are replaced below.
                                    const unsigned inside = column < buffer::BANK_COLUMNS ? column : 0;
                                    banked[r][c] = rows[r][c][bank_address<CFG>(one_slot, inside, fold)];
                                }
                            }

                            window_t window;
#pragma HLS AGGREGATE variable=window compact=bit
                        TAP_ROW:
                            for (unsigned tr = 0; tr < shape::TAP_ROWS; ++tr) {
#pragma HLS UNROLL
                            TAP_COLUMN:
                                for (unsigned tc = 0; tc < shape::TAP_COLUMNS; ++tc) {
#pragma HLS UNROLL
                                    // Rows and columns before the first wrap to large numbers and are outside as well.
                                    const unsigned row = oh * CFG::STRIDE + kh_fold + tr - CFG::PAD_TOP;
                                    const unsigned column = ow * CFG::STRIDE + kw_fold + tc - CFG::PAD_LEFT;
                                    const bool inside = row < CFG::IH && column < CFG::IW;
                                    unsigned slot = top_slot + tr;
                                    if (slot >= buffer::ROWS) {
                                        slot -= buffer::ROWS;
                                    }
                                    unsigned bank = phase + tc;
                                    if (bank >= buffer::COLUMN_BANKS) {
                                        bank -= buffer::COLUMN_BANKS;
                                    }
                                    word_t word = banked[buffer::ROW_BANKS == 1 ? 0 : slot][buffer::COLUMN_BANKS == 1 ? 0 : bank];
                                LANE:
                                    for (unsigned i = 0; i < CFG::P_IC; ++i) {
#pragma HLS UNROLL
                                        if (!inside) {
                                            word.lane[i] = pad[fold][i];
                                        }
                                        window.lane[(tr * shape::TAP_COLUMNS + tc) * CFG::P_IC + i] = word.lane[i];
                                    }
                                    // During the first output-channel fold, so that the 1x1 engine never waits for a later one.
                                    if (oc_fold == 0 && kh_fold + tr == CFG::PAD_TOP && kw_fold + tc == CFG::PAD_LEFT) {
                                        send_centre(centre, word);
                                    }
                                }
                            }
                            windows.write(window);

                            if (oc_fold + 1 == shape::OC_FOLDS && kh_fold + 1 == shape::KH_FOLDS && kw_fold + 1 == shape::KW_FOLDS &&
                                fold + 1 == shape::IC_FOLDS) {
                                base += CFG::STRIDE / buffer::COLUMN_BANKS;
                                phase += CFG::STRIDE % buffer::COLUMN_BANKS;
                                if (phase >= buffer::COLUMN_BANKS) {
                                    phase -= buffer::COLUMN_BANKS;
                                    ++base;
                                }
                            }
                        }
                    }
                }
            }
        }
        // What had not arrived while the row was read.
    CATCH_UP:
        for (unsigned i = 0; i < buffer::STEP_BEATS; ++i) {
#pragma HLS PIPELINE II=1 style=flp
            if (at.row >= row_limit) {
                break;
            }
            rows[buffer::ROW_BANKS == 1 ? 0 : at.slot][at.bank][bank_address<CFG>(at.slot, at.base, at.fold)] = in.read();
            at = next_write<CFG>(at);
        }
        top_slot += CFG::STRIDE;
        if (top_slot >= buffer::ROWS) {
            top_slot -= buffer::ROWS;
        }
    }
}

// Sends the windows of one frame.
template <typename CFG>
void window_reader(hls::stream<typename conv_shape<CFG>::word_t>& in, hls::stream<typename conv_shape<CFG>::window_t>& windows,
                   const int (&pad)[conv_shape<CFG>::IC_FOLDS][CFG::P_IC]) {
#pragma HLS INLINE
    no_centre nowhere;
    read_windows<CFG>(in, windows, nowhere, pad);
}

// Sends the windows of one frame and, word by word, the pixel under the centre of each.
template <typename CFG>
void window_reader_with_centre(hls::stream<typename conv_shape<CFG>::word_t>& in, hls::stream<typename conv_shape<CFG>::window_t>& windows,
                               hls::stream<typename conv_shape<CFG>::word_t>& centre,
                               const int (&pad)[conv_shape<CFG>::IC_FOLDS][CFG::P_IC]) {
#pragma HLS INLINE
    static_assert(CFG::STRIDE == 1 && CFG::OH == CFG::IH && CFG::OW == CFG::IW, "the centre tap is the pixel itself only when the map keeps its size");
    static_assert(CFG::PAD_TOP < CFG::K && CFG::PAD_LEFT < CFG::K, "the centre tap must lie in the kernel");
    read_windows<CFG>(in, windows, centre, pad);
}

// The reader of an unpadded 1x1 engine with stride 1: one pixel is kept and read again for each fold of output channels.
template <typename CFG>
void pixel_reader(hls::stream<typename conv_shape<CFG>::word_t>& in, hls::stream<typename conv_shape<CFG>::window_t>& windows) {
#pragma HLS INLINE
    using shape = conv_shape<CFG>;
    using word_t = typename shape::word_t;
    static_assert(CFG::K == 1 && CFG::STRIDE == 1 && CFG::PAD_TOP == 0 && CFG::PAD_LEFT == 0, "only for an unpadded 1x1 kernel with stride 1");
    static_assert(CFG::OH == CFG::IH && CFG::OW == CFG::IW, "an unpadded 1x1 kernel keeps the map's size");

    word_t pixel[shape::IC_FOLDS];
#pragma HLS AGGREGATE variable=pixel compact=bit
    // Read in the cycle after it was written when a pixel is one word.
#pragma HLS BIND_STORAGE variable=pixel type=ram_s2p impl=lutram

PIXEL:
    for (unsigned p = 0; p < CFG::OH * CFG::OW; ++p) {
    OUTPUT_FOLD:
        for (unsigned oc_fold = 0; oc_fold < shape::OC_FOLDS; ++oc_fold) {
        INPUT_FOLD:
            for (unsigned fold = 0; fold < shape::IC_FOLDS; ++fold) {
                // Flushing, so that finished windows leave while the input waits.
#pragma HLS PIPELINE II=1 style=flp
                word_t word;
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
