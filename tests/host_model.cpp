// The C++ host of OUT/board/host against a model of the AXI DMA's registers (PG021, direct register mode), of the GPIO, and of a machine that knows the
// golden images:   host_model FOLDER     FOLDER: OUT/board/pynq. Prints "OK sums=N" or fails. What the product guide forbids is a fault.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <map>
#include <optional>

#include "accelerator.hpp"
#include "npy.hpp"

namespace {

using namespace fsq;

std::vector<std::string> faults;

void require(bool good, const std::string& what) {
    if (good) return;
    std::fprintf(stderr, "FAILED: %s\n", what.c_str());
    std::exit(1);
}

// Memory of the model: the DMA reaches exactly these buffers.
struct Memory {
    std::map<std::uint64_t, std::vector<std::uint8_t>> blocks;
    DmaBuffer allocate(std::uint64_t physical, std::size_t size) {
        auto& block = blocks[physical];
        block.assign(size, 0xA5);
        return {block.data(), physical, size};
    }
    std::uint8_t* find(std::uint64_t address, std::size_t size) {
        for (auto& [base, block] : blocks)
            if (address >= base && address + size <= base + block.size()) return block.data() + (address - base);
        return nullptr;
    }
};

// Behind the DMA: whole frames in, sums out; weights in.
struct Machine {
    std::vector<std::uint8_t> images;
    std::vector<std::int64_t> sums;
    std::vector<std::uint8_t> good_weights, in, out;
    unsigned frames_in = 0, frames_out = 0, load = machine::load_bytes ? 0 : 4;
    bool frame_error = false;

    void reset() {
        in.clear();
        out.clear();
        frames_in = frames_out = 0;
        frame_error = false;
        if (machine::load_bytes) load = 0;
    }
    void take(const std::uint8_t* data, std::size_t size) {
        in.insert(in.end(), data, data + size);
        while (in.size() >= machine::frame_bytes) {
            answer();
            in.erase(in.begin(), in.begin() + machine::frame_bytes);
        }
        frame_error = frame_error || !in.empty();
    }
    void answer() {
        ++frames_in;
        std::vector<std::uint8_t> frame;
        for (std::size_t p = 0; p < machine::pixels; ++p)
            for (std::size_t b = 0; b < machine::pixel_bytes; ++b) {
                const std::uint8_t value = in[p * machine::pixel_bytes + b];
                if (b < machine::channels) frame.push_back(value);
                else if (value) faults.push_back("padding of a pixel is not zero");
            }
        for (std::size_t i = 0; i * frame.size() < images.size(); ++i)
            if (std::equal(frame.begin(), frame.end(), images.begin() + static_cast<std::ptrdiff_t>(i * frame.size())))
                return send(sums.data() + i * machine::classes);
        faults.push_back("a frame is no golden image");
    }
    void send(const std::int64_t* row) {
        std::vector<std::size_t> order(machine::classes);
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        if (machine::index_bytes) std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return row[a] > row[b]; });
        for (std::size_t i = 0; i < machine::out_beats; ++i)
            for (std::size_t b = 0; b < machine::out_bytes; ++b) {
                const std::size_t at = b - machine::sum_bytes;
                const auto value = static_cast<std::uint64_t>(row[order[i]]);
                out.push_back(static_cast<std::uint8_t>(b < machine::sum_bytes ? value >> 8 * b : at < machine::index_bytes ? order[i] >> 8 * at : 0));
            }
    }
    void load_weights(const std::uint8_t* data, std::size_t size) {
        const bool good = std::vector<std::uint8_t>(data, data + size) == good_weights;
        load = good ? 4 : 13;
    }
    std::uint32_t status() const {
        return (load == 4 ? 0x80u : 0u) | load | (frame_error ? 0x100u : 0u) | (machine::load_bytes ? 0x200u : 0u) | frames_in % 256 << 16 | frames_out % 256 << 24;
    }
};

// An AXI DMA; every register access is a step of time.
class DmaModel : public Registers {
public:
    DmaModel(Memory& memory, Machine& machine, bool loads) : memory_(memory), machine_(machine), loads_(loads) {}
    bool hold_receive = false;
    int transfers = 0;

    std::uint32_t read(std::uint32_t offset) override {
        step();
        Channel& c = channel(offset);
        switch (offset % 0x30) {
            case 0x00: return c.control | (resetting_ ? 0x4u : 0u);
            case 0x04: return c.status;
            case 0x28: return static_cast<std::uint32_t>(c.length);
            default: faults.push_back("read of register " + std::to_string(offset)); return 0;
        }
    }
    void write(std::uint32_t offset, std::uint32_t value) override {
        step();
        Channel& c = channel(offset);
        if (resetting_) faults.push_back("a register was written during reset");
        switch (offset % 0x30) {
            case 0x00:
                if (value & 0x4) {
                    channels_[0] = channels_[1] = Channel();
                    resetting_ = 5;
                } else {
                    c.control = value;
                    c.status = value & 1 ? c.status & ~1u : c.status | 1u;
                }
                break;
            case 0x18: c.address = (c.address & ~0xFFFFFFFFull) | value; break;
            case 0x1C: c.address = (c.address & 0xFFFFFFFFull) | std::uint64_t{value} << 32; break;
            case 0x28:
                if (c.status & 1 || c.busy) faults.push_back("LENGTH was written to a channel that is halted or busy");
                if (value == 0 || value > machine::max_transfer) faults.push_back("LENGTH of " + std::to_string(value));
                if (c.address % 4) faults.push_back("address is not aligned");
                c.length = value;
                c.status &= ~2u;
                c.busy = 3;
                break;
            default: faults.push_back("write to register " + std::to_string(offset));
        }
    }

private:
    struct Channel {
        std::uint32_t control = 0, status = 1;
        std::uint64_t address = 0;
        std::size_t length = 0;
        int busy = 0;  // steps until the transfer can end
    };
    Channel& channel(std::uint32_t offset) {
        if (loads_ && offset >= 0x30) faults.push_back("the load DMA has no receiving channel");
        return channels_[offset >= 0x30];
    }
    static void fail(Channel& c) {
        c.status |= 0x41;
        c.busy = 0;
    }
    void done(Channel& c) {
        c.status |= 0x1002;
        c.busy = 0;
        ++transfers;
    }
    void step() {
        if (resetting_) --resetting_;
        Channel &send = channels_[0], &receive = channels_[1];
        if (send.busy && --send.busy == 0) {
            if (const std::uint8_t* data = memory_.find(send.address, send.length)) {
                loads_ ? machine_.load_weights(data, send.length) : machine_.take(data, send.length);
                done(send);
            } else {
                fail(send);
            }
        }
        if (receive.busy && !hold_receive && !machine_.out.empty()) {
            std::uint8_t* target = memory_.find(receive.address, receive.length);
            if (target == nullptr || machine_.out.size() > receive.length) return fail(receive);
            std::copy(machine_.out.begin(), machine_.out.end(), target);
            receive.length = machine_.out.size();
            machine_.frames_out += static_cast<unsigned>(receive.length / machine::answer_bytes);
            machine_.out.clear();
            done(receive);
        }
    }

    Memory& memory_;
    Machine& machine_;
    bool loads_;
    Channel channels_[2];
    int resetting_ = 0;
};

class GpioModel : public Registers {
public:
    explicit GpioModel(Machine& machine) : machine_(machine) {}
    std::uint32_t read(std::uint32_t offset) override {
        if (offset != 0x8) faults.push_back("GPIO: read of register " + std::to_string(offset));
        return machine_.status();
    }
    void write(std::uint32_t offset, std::uint32_t value) override {
        if (offset != 0x0) faults.push_back("GPIO: write to register " + std::to_string(offset));
        if (value & 1) machine_.reset();
    }

private:
    Machine& machine_;
};

class StepClock : public Clock {
public:
    double seconds() override { return now_ += 1e-3; }

private:
    double now_ = 0;
};

template <typename Error>
void throws(const std::string& text, const std::function<void()>& action) {
    try {
        action();
    } catch (const Error& error) {
        require(std::string(error.what()).find(text) != std::string::npos, "'" + text + "' was expected in: " + error.what());
        return;
    }
    require(false, "an error with '" + text + "' was expected");
}

std::size_t compare(const std::vector<Answer>& answers, const std::vector<std::int64_t>& sums) {
    std::size_t compared = 0;
    for (std::size_t i = 0; i < answers.size(); ++i) {
        const std::int64_t* row = sums.data() + i * machine::classes;
        require(answers[i].sums.size() == machine::out_beats, "number of sums");
        for (std::size_t k = 0; k < machine::out_beats; ++k, ++compared) require(answers[i].sums[k] == row[answers[i].classes[k]], "class sum");
        require(answers[i].best() == static_cast<std::uint32_t>(std::max_element(row, row + machine::classes) - row), "best class");
    }
    return compared;
}

}  // namespace

int main(int, char** argv) {
    const std::string folder = argv[1];
    Machine behind;
    behind.images = read_npy<std::uint8_t>(folder + "/golden_images.npy", "|u1");
    behind.sums = read_npy<std::int64_t>(folder + "/golden_sums.npy", "<i8");
    throws<std::runtime_error>("values of type", [&] { read_npy<std::int64_t>(folder + "/golden_images.npy", "<i8"); });
    const std::size_t count = behind.sums.size() / machine::classes;
    require(count > 1, "several golden images");

    Memory memory;
    DmaModel dma(memory, behind, false), load_dma(memory, behind, true);
    GpioModel control(behind);
    StepClock clock;
    const DmaBuffer pixels = memory.allocate(0x812340000, 2 * machine::frame_bytes), answers = memory.allocate(0x900000000, 2 * machine::answer_bytes);
    Registers* const loader = machine::load_bytes ? &load_dma : nullptr;
    throws<AcceleratorError>("a load DMA belongs to", [&] { Accelerator(dma, control, loader ? nullptr : &load_dma, pixels, answers, clock, 1.0); });
    Accelerator accelerator(dma, control, loader, pixels, answers, clock, 1.0);
    require(accelerator.max_batch() == 2, "batch by the buffers");
    std::size_t compared = 0;

    if (machine::load_bytes) {
        std::ifstream file(folder + "/weights.bin", std::ios::binary);
        behind.good_weights.assign(std::istreambuf_iterator<char>(file), {});
        require(behind.good_weights.size() == machine::load_bytes, "weights.bin has load_bytes");
        throws<AcceleratorError>("takes no frames: load state 0", [&] { accelerator.run(behind.images.data(), 1); });
        const DmaBuffer image = memory.allocate(0x700000000, machine::load_bytes);
        throws<AcceleratorError>("refuses the weights: load state 13", [&] { accelerator.load_weights(image); });
        std::copy(behind.good_weights.begin(), behind.good_weights.end(), image.data);
        accelerator.load_weights(image);
    }
    const auto reload = [&] {
        if (machine::load_bytes) accelerator.load_weights({nullptr, 0x700000000, machine::load_bytes});
    };
    dma.transfers = 0;
    compared += compare(accelerator.run(behind.images.data(), count), behind.sums);
    require(dma.transfers == static_cast<int>(2 * ((count + 1) / 2)), "a transfer each way a batch");

    dma.hold_receive = true;
    throws<TransferTimeout>("dma receive not done in time; load state 4, ", [&] { accelerator.run(behind.images.data(), 1); });
    dma.hold_receive = false;
    reload();
    compared += compare(accelerator.run(behind.images.data(), 1), behind.sums);

    const auto kept = memory.blocks[answers.physical];
    memory.blocks.erase(answers.physical);
    throws<AcceleratorError>("dma receive reports decode error", [&] { accelerator.run(behind.images.data(), 1); });
    reload();

    require(faults.empty(), faults.empty() ? "" : faults.front());
    std::printf("OK sums=%zu\n", compared);
    return 0;
}
