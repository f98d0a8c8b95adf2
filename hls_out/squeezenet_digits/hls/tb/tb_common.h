// Testbench helpers: golden tensors from files, stimulus and comparison of streams. Not synthesized.
//
// A golden file (tb_data/<tensor>.bin) is little-endian: the 8 characters "FSQTENS1", then six 32-bit words (bytes a value: 1, 2, 4 or 8;
// 1 if signed, else 0; frames; channels; height; width), then the values, frame by frame, each in the order channel, row, column.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <hls_stream.h>

namespace tb {

[[noreturn]] inline void fail(const std::string& message) {
    std::fprintf(stderr, "testbench: %s\n", message.c_str());
    std::exit(2);
}

struct shape {
    unsigned channels;
    unsigned height;
    unsigned width;
};

class tensor {
public:
    tensor(const std::string& path, shape expected) : size_(expected) {
        std::ifstream file(path, std::ios::binary);
        if (!file) {
            fail("cannot open " + path + "; pass the tb_data folder as the first argument");
        }
        data_.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        if (data_.size() < HEADER || std::memcmp(data_.data(), "FSQTENS1", 8) != 0) {
            fail(path + " is no golden tensor");
        }
        bytes_ = word(0);
        signed_ = word(1) != 0;
        frames_ = word(2);
        if (word(3) != expected.channels || word(4) != expected.height || word(5) != expected.width) {
            fail(path + " has another shape than the design");
        }
        const bool known = bytes_ == 1 || bytes_ == 2 || bytes_ == 4 || bytes_ == 8;
        const std::size_t values = static_cast<std::size_t>(frames_) * expected.channels * expected.height * expected.width;
        if (!known || data_.size() != HEADER + values * bytes_) {
            fail(path + " is truncated or damaged");
        }
    }

    unsigned frames() const { return frames_; }
    const shape& size() const { return size_; }

    long long at(unsigned frame, unsigned channel, unsigned y, unsigned x) const {
        const std::size_t index = ((static_cast<std::size_t>(frame) * size_.channels + channel) * size_.height + y) * size_.width + x;
        const char* from = data_.data() + HEADER + index * bytes_;
        std::uint64_t value = 0;
        for (unsigned b = 0; b < bytes_; ++b) {
            value |= static_cast<std::uint64_t>(static_cast<unsigned char>(from[b])) << (8 * b);
        }
        const unsigned up = 64 - 8 * bytes_;
        return signed_ ? static_cast<std::int64_t>(value << up) >> up : static_cast<long long>(value);
    }

private:
    static constexpr std::size_t HEADER = 32;

    std::uint32_t word(unsigned index) const {
        std::uint32_t value = 0;
        for (unsigned b = 0; b < 4; ++b) {
            value |= static_cast<std::uint32_t>(static_cast<unsigned char>(data_[8 + 4 * index + b])) << (8 * b);
        }
        return value;
    }

    shape size_;
    std::vector<char> data_;
    unsigned bytes_ = 0;
    bool signed_ = false;
    unsigned frames_ = 0;
};

// Counts of one stage over all frames; `report` prints them in the form that `fpga-squeeze verify` reads.
class check {
public:
    explicit check(const std::string& stage) : stage_(stage) {}

    void value(unsigned frame, unsigned channel, unsigned y, unsigned x, long long expected, long long got) {
        ++compared_;
        if (expected != got) {
            if (mismatches_ == 0) {
                first_ = {frame, channel, y, x, expected, got};
            }
            ++mismatches_;
        }
    }

    // Anything wrong besides a value: missing or surplus beats, padding lanes that are not zero, a misplaced TLAST.
    void fault(const std::string& what) {
        if (faults_ == 0) {
            fault_ = what;
        }
        ++faults_;
    }

    bool report() const {
        std::printf("stage %s compared %llu mismatches %llu\n", stage_.c_str(), compared_, mismatches_);
        if (mismatches_ != 0) {
            std::printf("first %s frame %u channel %u y %u x %u expected %lld got %lld\n", stage_.c_str(), first_.frame, first_.channel, first_.y,
                        first_.x, first_.expected, first_.got);
        }
        if (faults_ != 0) {
            std::printf("fault %s %s (%llu in all)\n", stage_.c_str(), fault_.c_str(), faults_);
        }
        std::fflush(stdout);
        return compared_ != 0 && mismatches_ == 0 && faults_ == 0;
    }

private:
    struct position {
        unsigned frame;
        unsigned channel;
        unsigned y;
        unsigned x;
        long long expected;
        long long got;
    };

    std::string stage_;
    unsigned long long compared_ = 0;
    unsigned long long mismatches_ = 0;
    unsigned long long faults_ = 0;
    position first_ = {0, 0, 0, 0, 0, 0};
    std::string fault_;
};

// Writes one frame in stream order: row, column, then beats of LANES channels, the last padded with zeros.
template <unsigned LANES, typename WORD>
void feed(hls::stream<WORD>& out, const tensor& values, unsigned frame) {
    const shape& s = values.size();
    for (unsigned y = 0; y < s.height; ++y) {
        for (unsigned x = 0; x < s.width; ++x) {
            for (unsigned c = 0; c < s.channels; c += LANES) {
                WORD word;
                for (unsigned i = 0; i < LANES; ++i) {
                    word.lane[i] = c + i < s.channels ? values.at(frame, c + i, y, x) : 0;
                }
                out.write(word);
            }
        }
    }
}

// Reads one frame and compares it with the golden values.
template <unsigned LANES, typename WORD>
void compare(hls::stream<WORD>& in, const tensor& golden, unsigned frame, check& result) {
    const shape& s = golden.size();
    for (unsigned y = 0; y < s.height; ++y) {
        for (unsigned x = 0; x < s.width; ++x) {
            for (unsigned c = 0; c < s.channels; c += LANES) {
                if (in.empty()) {
                    result.fault("sends too few beats");
                    return;
                }
                const WORD word = in.read();
                for (unsigned i = 0; i < LANES; ++i) {
                    const long long got = word.lane[i].to_int64();
                    if (c + i < s.channels) {
                        result.value(frame, c + i, y, x, golden.at(frame, c + i, y, x), got);
                    } else if (got != 0) {
                        result.fault("sends padding lanes that are not zero");
                    }
                }
            }
        }
    }
}

template <typename WORD>
void expect_empty(hls::stream<WORD>& stream, const char* what, check& result) {
    while (!stream.empty()) {
        stream.read();
        result.fault(what);
    }
}

// Runs one stage on every frame: golden tensor in, golden tensor out.
template <unsigned IN_LANES, unsigned OUT_LANES, typename IN, typename OUT>
bool run_stage(const char* name, void (*stage)(hls::stream<IN>&, hls::stream<OUT>&), const std::string& data, const char* in_file, shape in_shape,
               const char* out_file, shape out_shape, unsigned frames) {
    const tensor input(data + "/" + in_file + ".bin", in_shape);
    const tensor golden(data + "/" + out_file + ".bin", out_shape);
    if (input.frames() < frames || golden.frames() < frames) {
        fail(std::string("fewer golden frames than asked for at stage ") + name);
    }
    check result(name);
    hls::stream<IN> in("testbench.in");
    hls::stream<OUT> out("testbench.out");
    for (unsigned frame = 0; frame < frames; ++frame) {
        feed<IN_LANES>(in, input, frame);
        stage(in, out);
        compare<OUT_LANES>(out, golden, frame, result);
        expect_empty(in, "leaves input beats unread", result);
        expect_empty(out, "sends too many beats", result);
    }
    return result.report();
}

}  // namespace tb
