// Read sequencer of a convolution engine that works on one output pixel at a time.
//
// Takes the input map once, in stream order, and sends the activations of every output pixel in the order in which the multipliers use them:
// output-channel fold, kernel row, kernel column, input-channel fold (innermost), P_K x P_IC activations a beat. The buffer is read again for each
// fold of output channels; no window is ever copied. While one output row is read, the STRIDE rows that the next one needs are written.
#pragma once

#include "line_buffer.h"

namespace fsq {

// `centre` takes the tap at (PAD_TOP, PAD_LEFT) once per output pixel, word by word: the pixel itself, for a 1x1 convolution beside this one.
template <typename CFG, typename CENTRE>
void read_windows(hls::stream<typename conv_shape<CFG>::word_t>& in, hls::stream<typename conv_shape<CFG>::window_t>& windows,
                  CENTRE& centre, const int (&pad)[conv_shape<CFG>::IC_FOLDS][CFG::P_IC]) {
#pragma HLS INLINE
    using shape = conv_shape<CFG>;
    using buffer = line_buffer<CFG>;
    using word_t = typename shape::word_t;
    using window_t = typename shape::window_t;
    static_assert(CFG::P_PX == 1, "groups of pixels have a reader of their own");

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

    window_position pixel = first_position<CFG>(0);
ROW:
    for (unsigned oh = 0; oh < CFG::OH; ++oh) {
        // Rows that may be complete when this output row is done.
        const unsigned row_limit = smaller(CFG::IH, CFG::K - CFG::PAD_TOP + (oh + 1) * CFG::STRIDE);
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

                            const fold_step step = {oc_fold, kh_fold, kw_fold, fold};
                            word_t taps[CFG::P_K];
#pragma HLS ARRAY_PARTITION variable=taps type=complete
                            read_taps<CFG>(rows, pixel, step, pad, taps);
                            window_t window;
#pragma HLS AGGREGATE variable=window compact=bit
                        TAP:
                            for (unsigned tap = 0; tap < CFG::P_K; ++tap) {
#pragma HLS UNROLL
                            LANE:
                                for (unsigned i = 0; i < CFG::P_IC; ++i) {
#pragma HLS UNROLL
                                    window.lane[tap * CFG::P_IC + i] = taps[tap].lane[i];
                                }
                                if (is_centre<CFG>(step, tap / shape::TAP_COLUMNS, tap % shape::TAP_COLUMNS)) {
                                    send_centre(centre, taps[tap]);
                                }
                            }
                            windows.write(window);

                            if (oc_fold + 1 == shape::OC_FOLDS && kh_fold + 1 == shape::KH_FOLDS && kw_fold + 1 == shape::KW_FOLDS &&
                                fold + 1 == shape::IC_FOLDS) {
                                pixel = next_position<CFG, 1>(pixel);
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
                               hls::stream<typename conv_shape<CFG>::group_t>& centre,
                               const int (&pad)[conv_shape<CFG>::IC_FOLDS][CFG::P_IC]) {
#pragma HLS INLINE
    static_assert(has_centre_pixel<CFG>(), "the centre tap is the pixel itself only when the map keeps its size");
    read_windows<CFG>(in, windows, centre, pad);
}

}  // namespace fsq
