// Checks a stage that takes two streams: the main branch and a bypass.
#pragma once

#include "tb_common.h"

namespace tb {

// Runs an addition or a concat on every frame: two golden tensors in, one golden tensor out.
template <unsigned IN_LANES, unsigned BYPASS_LANES, unsigned OUT_LANES, typename IN, typename BYPASS, typename OUT>
bool run_join(const char* name, void (*stage)(hls::stream<IN>&, hls::stream<BYPASS>&, hls::stream<OUT>&), const std::string& data, const char* in_file,
                  shape in_shape, const char* bypass_file, shape bypass_shape, const char* out_file, shape out_shape, unsigned frames) {
    const tensor input(data + "/" + in_file + ".bin", in_shape);
    const tensor bypassed(data + "/" + bypass_file + ".bin", bypass_shape);
    const tensor golden(data + "/" + out_file + ".bin", out_shape);
    if (input.frames() < frames || bypassed.frames() < frames || golden.frames() < frames) {
        fail(std::string("fewer golden frames than asked for at stage ") + name);
    }
    check result(name);
    hls::stream<IN> in("testbench.in");
    hls::stream<BYPASS> bypass("testbench.bypass");
    hls::stream<OUT> out("testbench.out");
    for (unsigned frame = 0; frame < frames; ++frame) {
        feed<IN_LANES>(in, input, frame);
        feed<BYPASS_LANES>(bypass, bypassed, frame);
        stage(in, bypass, out);
        compare<OUT_LANES>(out, golden, frame, result);
        expect_empty(in, "leaves input beats unread", result);
        expect_empty(bypass, "leaves bypass beats unread", result);
        expect_empty(out, "sends too many beats", result);
    }
    return result.report();
}

}  // namespace tb
