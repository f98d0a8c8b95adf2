// Width converters: each pixel's CHANNELS arrive in beats of A lanes and leave in beats of B lanes, the last beat padded with zeros.
#pragma once

#include "beat.h"

namespace fsq {

// A is a multiple of B: every input beat is taken apart. One output beat a cycle.
template <typename T, unsigned A, unsigned B, unsigned CHANNELS, unsigned PIXELS>
void split_beats(hls::stream<beat<T, A>>& in, hls::stream<beat<T, B>>& out) {
    static_assert(A % B == 0, "the wide beat must be a multiple of the narrow one");
    beat<T, A> held;
#pragma HLS AGGREGATE variable=held compact=bit
PIXEL:
    for (unsigned p = 0; p < PIXELS; ++p) {
    BEAT:
        for (unsigned b = 0; b < ceil_div(CHANNELS, B); ++b) {
            // Flushing, so that beats leave while the input waits.
#pragma HLS PIPELINE II=1 style=flp
            if (b % (A / B) == 0) {
                held = in.read();
            }
            beat<T, B> result;
#pragma HLS AGGREGATE variable=result compact=bit
        LANE:
            for (unsigned i = 0; i < B; ++i) {
#pragma HLS UNROLL
                result.lane[i] = held.lane[i];
            }
        SHIFT:
            for (unsigned i = 0; i + B < A; ++i) {
#pragma HLS UNROLL
                held.lane[i] = held.lane[i + B];
            }
            out.write(result);
        }
    }
}

// B is a multiple of A: input beats are collected. One input beat a cycle.
template <typename T, unsigned A, unsigned B, unsigned CHANNELS, unsigned PIXELS>
void merge_beats(hls::stream<beat<T, A>>& in, hls::stream<beat<T, B>>& out) {
    static_assert(B % A == 0, "the wide beat must be a multiple of the narrow one");
    constexpr unsigned PARTS = B / A;
    beat<T, B> held;
#pragma HLS AGGREGATE variable=held compact=bit
PIXEL:
    for (unsigned p = 0; p < PIXELS; ++p) {
    BEAT:
        for (unsigned b = 0; b < ceil_div(CHANNELS, A); ++b) {
            // Flushing, so that beats leave while the input waits.
#pragma HLS PIPELINE II=1 style=flp
            const beat<T, A> word = in.read();
            const unsigned part = b % PARTS;
        LANE:
            for (unsigned i = 0; i < B; ++i) {
#pragma HLS UNROLL
                if (i / A == part) {
                    held.lane[i] = word.lane[i % A];
                } else if (i / A > part) {
                    held.lane[i] = 0;
                }
            }
            if (part + 1 == PARTS || b + 1 == ceil_div(CHANNELS, A)) {
                out.write(held);
            }
        }
    }
}

// Cycles a pixel spends in the gearbox: its schedule depends on nothing but the sizes.
constexpr unsigned gearbox_steps(unsigned a, unsigned b, unsigned channels) {
    unsigned taken = 0;
    unsigned sent = 0;
    unsigned level = 0;
    unsigned steps = 0;
    while (sent < ceil_div(channels, b)) {
        if (level < b && taken < ceil_div(channels, a)) {
            ++taken;
            level += a;
        }
        if (level >= b || taken == ceil_div(channels, a)) {
            ++sent;
            level = level > b ? level - b : 0;
        }
        ++steps;
    }
    return steps;
}

// Any A and B: lanes queue in a shift register.
template <typename T, unsigned A, unsigned B, unsigned CHANNELS, unsigned PIXELS>
void regroup_beats(hls::stream<beat<T, A>>& in, hls::stream<beat<T, B>>& out) {
    constexpr unsigned IN_BEATS = ceil_div(CHANNELS, A);
    constexpr unsigned STEPS = gearbox_steps(A, B, CHANNELS);
    constexpr unsigned SIZE = A + B;
    T queue[SIZE];
    // Every lane shifts in one cycle.
#pragma HLS ARRAY_PARTITION variable=queue type=complete
    unsigned level = 0;
    unsigned taken = 0;
PIXEL:
    for (unsigned p = 0; p < PIXELS; ++p) {
    STEP:
        for (unsigned step = 0; step < STEPS; ++step) {
            // Flushing, so that beats leave while the input waits.
#pragma HLS PIPELINE II=1 style=flp
            if (step == 0) {
                level = 0;
                taken = 0;
            CLEAR:
                for (unsigned i = 0; i < SIZE; ++i) {
#pragma HLS UNROLL
                    queue[i] = 0;
                }
            }
            if (level < B && taken < IN_BEATS) {
                const beat<T, A> word = in.read();
            APPEND:
                for (unsigned i = 0; i < A; ++i) {
#pragma HLS UNROLL
                    queue[level + i] = word.lane[i];
                }
                level += A;
                ++taken;
            }
            if (level >= B || taken == IN_BEATS) {
                beat<T, B> result;
#pragma HLS AGGREGATE variable=result compact=bit
            LANE:
                for (unsigned i = 0; i < B; ++i) {
#pragma HLS UNROLL
                    result.lane[i] = queue[i];
                }
            SHIFT:
                for (unsigned i = 0; i < SIZE; ++i) {
#pragma HLS UNROLL
                    queue[i] = i + B < SIZE ? queue[i + B] : T(0);
                }
                level = level > B ? level - B : 0;
                out.write(result);
            }
        }
    }
}

}  // namespace fsq
