// Read sequencer of a convolution engine that works on P_PX output pixels at a time.
//
// As window_reader.h, for groups of P_PX pixels that follow each other in the stream: there are P_PX copies of the line buffer, written alike and
// read at P_PX places, and a beat holds P_K x P_IC activations of every pixel. A group may begin in one output row and end in the next. It is read
// with nothing being written, after the rows of both are in: then the K + STRIDE rows of the buffer are all in use.
#pragma once

#include "line_buffer.h"

namespace fsq {

template <typename CFG, typename CENTRE>
void read_groups(hls::stream<typename conv_shape<CFG>::word_t>& in, hls::stream<typename conv_shape<CFG>::window_t>& windows,
                 CENTRE& centre, const int (&pad)[conv_shape<CFG>::IC_FOLDS][CFG::P_IC]) {
#pragma HLS INLINE
    using shape = conv_shape<CFG>;
    using buffer = line_buffer<CFG>;
    using lane = typename shape::in_lane;
    using word_t = typename shape::word_t;
    constexpr unsigned GROUP_STEPS = shape::OC_FOLDS * shape::FOLDS;
    constexpr unsigned ROW_GROUPS = CFG::OW / CFG::P_PX;  // most groups that lie within a row

    word_t rows[CFG::P_PX][buffer::ROW_BANKS][buffer::COLUMN_BANKS][buffer::BANK_WORDS];
    // A word is read and written whole.
#pragma HLS AGGREGATE variable=rows compact=bit
    // Every bank of every copy is a memory of its own: all taps of all pixels are read in one cycle.
#pragma HLS ARRAY_PARTITION variable=rows type=complete dim=1
#pragma HLS ARRAY_PARTITION variable=rows type=complete dim=2
#pragma HLS ARRAY_PARTITION variable=rows type=complete dim=3

    write_cursor at = {0, 0, 0, 0, 0, 0};

FILL:
    for (unsigned i = 0; i < buffer::FILL_ROWS * buffer::ROW_BEATS; ++i) {
#pragma HLS PIPELINE II=1 style=flp
        write_copies<CFG>(rows, at, in.read());
        at = next_write<CFG>(at);
    }

    window_position pixels[CFG::P_PX];
#pragma HLS ARRAY_PARTITION variable=pixels type=complete
FIRST:
    for (unsigned px = 0; px < CFG::P_PX; ++px) {
#pragma HLS UNROLL
        pixels[px] = first_position<CFG>(px);
    }
    fold_step step = {0, 0, 0, 0};
ROW:
    for (unsigned oh = 0; oh < CFG::OH; ++oh) {
        // Rows that may be complete when the groups that begin in this output row are done; the group that ends in the next row needs them all.
        const unsigned row_limit = smaller(CFG::IH, CFG::K - CFG::PAD_TOP + (oh + 1) * CFG::STRIDE);
        // First the groups that lie within the row, then the one that reaches beyond it, if there is one.
    PART:
        for (unsigned part = 0; part < 2; ++part) {
        STEP:
            for (unsigned i = 0; i < ROW_GROUPS * GROUP_STEPS; ++i) {
                // Flushing, so that finished windows leave while the input waits.
#pragma HLS PIPELINE II=1 style=flp
                // The rows written during this loop are first read after it has drained.
#pragma HLS DEPENDENCE variable=rows type=inter dependent=false
                if (pixels[0].row != oh || (part == 0 && pixels[0].column + CFG::P_PX > CFG::OW)) {
                    break;
                }
                // Take a beat whenever one waits: bursts of the producer are absorbed by the free rows.
                if (at.row < row_limit && !in.empty()) {
                    write_copies<CFG>(rows, at, in.read());
                    at = next_write<CFG>(at);
                }

                typename shape::window_t window;
#pragma HLS AGGREGATE variable=window compact=bit
            PIXEL:
                for (unsigned px = 0; px < CFG::P_PX; ++px) {
#pragma HLS UNROLL
                    word_t taps[CFG::P_K];
#pragma HLS ARRAY_PARTITION variable=taps type=complete
                    read_taps<CFG>(rows[px], pixels[px], step, pad, taps);
                TAP:
                    for (unsigned tap = 0; tap < CFG::P_K; ++tap) {
#pragma HLS UNROLL
                    LANE:
                        for (unsigned i = 0; i < CFG::P_IC; ++i) {
#pragma HLS UNROLL
                            lane::set(window.lane[tap * CFG::P_IC + i], px, taps[tap].lane[i]);
                        }
                    }
                }
            CENTRE_TAP:
                for (unsigned tap = 0; tap < CFG::P_K; ++tap) {
#pragma HLS UNROLL
                    if (is_centre<CFG>(step, tap / shape::TAP_COLUMNS, tap % shape::TAP_COLUMNS)) {
                        typename shape::group_t word;
#pragma HLS AGGREGATE variable=word compact=bit
                    CENTRE_LANE:
                        for (unsigned i = 0; i < CFG::P_IC; ++i) {
#pragma HLS UNROLL
                            word.lane[i] = window.lane[tap * CFG::P_IC + i];
                        }
                        send_centre(centre, word);
                    }
                }
                windows.write(window);

                step = next_step<CFG>(step);
                if (step.oc_fold == shape::OC_FOLDS) {
                    step.oc_fold = 0;
                ADVANCE:
                    for (unsigned px = 0; px < CFG::P_PX; ++px) {
#pragma HLS UNROLL
                        pixels[px] = next_position<CFG, CFG::P_PX>(pixels[px]);
                    }
                }
            }
            // What had not arrived while the groups were read.
        CATCH_UP:
            for (unsigned i = 0; i < buffer::STEP_BEATS; ++i) {
#pragma HLS PIPELINE II=1 style=flp
                if (at.row >= row_limit) {
                    break;
                }
                write_copies<CFG>(rows, at, in.read());
                at = next_write<CFG>(at);
            }
        }
    }
}

// Sends the windows of one frame, group by group.
template <typename CFG>
void group_reader(hls::stream<typename conv_shape<CFG>::word_t>& in, hls::stream<typename conv_shape<CFG>::window_t>& windows,
                  const int (&pad)[conv_shape<CFG>::IC_FOLDS][CFG::P_IC]) {
#pragma HLS INLINE
    no_centre nowhere;
    read_groups<CFG>(in, windows, nowhere, pad);
}

// Sends the windows of one frame, group by group, and, word by word, the pixels under their centres.
template <typename CFG>
void group_reader_with_centre(hls::stream<typename conv_shape<CFG>::word_t>& in, hls::stream<typename conv_shape<CFG>::window_t>& windows,
                              hls::stream<typename conv_shape<CFG>::group_t>& centre,
                              const int (&pad)[conv_shape<CFG>::IC_FOLDS][CFG::P_IC]) {
#pragma HLS INLINE
    static_assert(has_centre_pixel<CFG>(), "the centre tap is the pixel itself only when the map keeps its size");
    read_groups<CFG>(in, windows, centre, pad);
}

}  // namespace fsq
