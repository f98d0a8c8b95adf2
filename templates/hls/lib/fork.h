// One stream for two readers.
#pragma once

#include "beat.h"

namespace fsq {

// Sends every beat of a frame to both outputs. A beat a cycle while both have room.
template <typename WORD, unsigned BEATS>
void fork_beats(hls::stream<WORD>& in, hls::stream<WORD>& main, hls::stream<WORD>& bypass) {
BEAT:
    for (unsigned b = 0; b < BEATS; ++b) {
        // Flushing, so that beats leave while the input waits.
#pragma HLS PIPELINE II=1 style=flp
        const WORD word = in.read();
        main.write(word);
        bypass.write(word);
    }
}

}  // namespace fsq
