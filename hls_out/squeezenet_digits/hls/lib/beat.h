// The unit that travels on every stream, and compile-time arithmetic shared by the kernels.
#pragma once

#include <ap_int.h>
#include <hls_stream.h>

namespace fsq {

// One stream beat: N channels of one pixel, lowest channel in lane 0. A pixel of C channels is ceil(C / N) beats, the last padded with zeros.
template <typename T, unsigned N>
struct beat {
    static_assert(N > 0, "a beat carries at least one channel");
    T lane[N];
};

constexpr unsigned ceil_div(unsigned value, unsigned divisor) { return (value + divisor - 1) / divisor; }

constexpr unsigned smaller(unsigned a, unsigned b) { return a < b ? a : b; }

constexpr unsigned larger(unsigned a, unsigned b) { return a > b ? a : b; }

// Bits that count `items` things: ceil(log2(items)).
constexpr unsigned log2_ceil(unsigned items) {
    unsigned bits = 0;
    while ((1ULL << bits) < items) {
        ++bits;
    }
    return bits;
}

}  // namespace fsq
