// The AXI4-Stream ends of the machine.
#pragma once

#include <ap_axi_sdata.h>

#include "beat.h"

namespace fsq {

// One pixel a beat, channel c in bits 8c+7..8c (red lowest). A frame is PIXELS beats whatever TLAST says: TLAST, TKEEP and TSTRB are not needed.
template <unsigned CHANNELS, unsigned PIXELS>
void receive_pixels(hls::stream<ap_axiu<8 * CHANNELS, 0, 0, 0>>& s_axis, hls::stream<beat<ap_uint<8>, CHANNELS>>& out) {
PIXEL:
    for (unsigned p = 0; p < PIXELS; ++p) {
        // Flushing, so that pixels go on while the camera waits.
#pragma HLS PIPELINE II=1 style=flp
        const ap_axiu<8 * CHANNELS, 0, 0, 0> word = s_axis.read();
        beat<ap_uint<8>, CHANNELS> pixel;
#pragma HLS AGGREGATE variable=pixel compact=bit
    LANE:
        for (unsigned c = 0; c < CHANNELS; ++c) {
#pragma HLS UNROLL
            pixel.lane[c] = word.data.range(8 * c + 7, 8 * c);
        }
        out.write(pixel);
    }
}

// One class sum a beat, sign-extended to BITS; TLAST marks the last class of the frame.
template <typename SUM, unsigned BITS, unsigned CLASSES>
void send_scores(hls::stream<beat<SUM, 1>>& in, hls::stream<ap_axiu<BITS, 0, 0, 0>>& m_axis) {
CLASS:
    for (unsigned c = 0; c < CLASSES; ++c) {
        // Flushing, so that sums leave while the next ones wait.
#pragma HLS PIPELINE II=1 style=flp
        const ap_int<BITS> sum = in.read().lane[0];
        ap_axiu<BITS, 0, 0, 0> word;
        word.data = sum;
        word.keep = -1;
        word.strb = -1;
        word.last = c + 1 == CLASSES;
        m_axis.write(word);
    }
}

}  // namespace fsq
