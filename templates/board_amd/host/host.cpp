// Classify images on the board, without Python and without a vendor library. Run as root, after the bitstream was loaded:
//
//     ./host BOARD IMAGE.raw...                height x width x channels bytes each, row by row, red first
//     ./host BOARD --check ../pynq             golden images of the export; class sums are compared with the simulator's
//     ./host BOARD --weights weights.bin ...   for a machine with a load port: these weights first
//
// Exit codes: 0 done; 1 a wrong or missing answer; 2 bad input.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "accelerator.hpp"
#include "linux_devices.hpp"
#include "npy.hpp"

namespace {

constexpr double timeout_s = 2.0;

class BadInput : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

std::vector<std::uint8_t> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw BadInput(path + ": cannot be read");
    return std::vector<std::uint8_t>(std::istreambuf_iterator<char>(file), {});
}

const fsq::machine::Board& find_board(const std::string& name) {
    std::string known;
    for (const auto& board : fsq::machine::boards) {
        if (name == board.name) return board;
        known += std::string(known.empty() ? "" : ", ") + board.name;
    }
    throw BadInput("board " + name + " is not known; one of " + known + " was expected");
}

struct Options {
    std::string board, weights, check;
    std::vector<std::string> images;
};

Options parse(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    Options options;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const bool named = words[i] == "--weights" || words[i] == "--check";
        if (named && i + 1 == words.size()) throw BadInput(words[i] + ": a path was expected behind it");
        if (words[i] == "--weights") options.weights = words[++i];
        else if (words[i] == "--check") options.check = words[++i];
        else if (options.board.empty()) options.board = words[i];
        else options.images.push_back(words[i]);
    }
    if (options.board.empty() || (options.images.empty() && options.check.empty()))
        throw BadInput("usage: host BOARD [--weights FILE] (IMAGE.raw... | --check FOLDER)");
    if ((fsq::machine::load_bytes != 0) == options.weights.empty())
        throw BadInput(options.weights.empty() ? "--weights FILE was expected: this machine takes its weights over the load port"
                                               : "--weights: this machine has its weights in the bitstream");
    return options;
}

int run(const Options& options) {
    using namespace fsq;
    constexpr std::size_t frame = machine::pixels * machine::channels;
    std::vector<std::uint8_t> images;
    for (const auto& name : options.images) {
        const auto data = read_file(name);
        if (data.size() != frame) throw BadInput(name + ": " + std::to_string(frame) + " bytes were expected, got " + std::to_string(data.size()));
        images.insert(images.end(), data.begin(), data.end());
    }
    std::vector<std::int64_t> expected;
    if (!options.check.empty()) {
        const auto golden = read_npy<std::uint8_t>(options.check + "/golden_images.npy", "|u1");
        expected = read_npy<std::int64_t>(options.check + "/golden_sums.npy", "<i8");
        if (golden.size() % frame != 0 || expected.size() != golden.size() / frame * machine::classes) throw BadInput(options.check + ": golden data of another machine");
        images.insert(images.end(), golden.begin(), golden.end());
    }
    const auto weights = options.weights.empty() ? std::vector<std::uint8_t>{} : read_file(options.weights);

    const auto& board = find_board(options.board);
    MemRegisters dma(board.dma), control(board.control);
    const auto load_dma = board.load_dma ? std::make_unique<MemRegisters>(board.load_dma) : nullptr;
    const UdmaBuffer memory("udmabuf0");
    const std::size_t count = images.size() / frame;
    // The DMA wants addresses at multiples of its memory width.
    const auto aligned = [](std::size_t bytes) { return (bytes + 63) / 64 * 64; };
    const std::size_t answers_at = aligned(count * machine::frame_bytes), weights_at = answers_at + aligned(count * machine::answer_bytes);
    SteadyClock clock;
    Accelerator accelerator(dma, control, load_dma.get(), memory.part(0, answers_at), memory.part(answers_at, count * machine::answer_bytes), clock, timeout_s);
    if (!weights.empty()) {
        const DmaBuffer image = memory.part(weights_at, weights.size());
        std::copy(weights.begin(), weights.end(), image.data);
        accelerator.load_weights(image);
    }
    const auto answers = accelerator.run(images.data(), count);
    int wrong = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const char* note = "";
        if (i >= options.images.size()) {
            const auto row = expected.begin() + static_cast<std::ptrdiff_t>((i - options.images.size()) * machine::classes);
            bool same = true;
            for (std::size_t k = 0; k < machine::out_beats; ++k) same = same && answers[i].sums[k] == row[answers[i].classes[k]];
            note = same ? ", sums as the simulator's" : ", WRONG: the simulator has other sums";
            wrong += same ? 0 : 1;
        }
        std::printf("image %zu: class %u%s\n", i, answers[i].best(), note);
    }
    return wrong ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(parse(argc, argv));
    } catch (const BadInput& error) {
        std::fprintf(stderr, "host: %s\n", error.what());
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "host: %s\n", error.what());
        return 1;
    }
}
