// The accelerator behind its DMA: images in, class sums out. Needs machine.hpp of the export; no operating system. C++17.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "axi_dma.hpp"
#include "machine.hpp"

namespace fsq {

struct Status {
    bool ready;
    unsigned load;
    bool frame_error;
    bool has_load_port;
    unsigned frames_in;   // modulo 256, since reset
    unsigned frames_out;

    std::string text() const {
        return "load state " + std::to_string(load) + ", " + std::to_string(frames_in) + " frames came in whole, " + std::to_string(frames_out) +
               " left since reset (modulo 256)" + (frame_error ? ", a packet ended inside a frame" : "");
    }
};

struct Answer {
    std::vector<std::int64_t> sums;      // of every class, or of the best where the machine sends its best only
    std::vector<std::uint32_t> classes;  // of these sums

    // Of equal sums the lower class, as in the simulator.
    std::uint32_t best() const {
        return classes[static_cast<std::size_t>(std::max_element(sums.begin(), sums.end()) - sums.begin())];
    }
};

class Accelerator {
public:
    // load_dma: null for a machine without a load port. pixels, answers: at least one frame each; their sizes bound a batch.
    Accelerator(Registers& dma, Registers& control, Registers* load_dma, DmaBuffer pixels, DmaBuffer answers, Clock& clock, double timeout_s)
        : send_(dma, DmaChannel::mm2s), receive_(dma, DmaChannel::s2mm), control_(control), load_registers_(load_dma), pixels_(pixels),
          answers_(answers), clock_(clock), timeout_s_(timeout_s) {
        if (max_batch() == 0) throw AcceleratorError("buffers of at least one frame and one answer were expected");
        if ((load_dma != nullptr) != (machine::load_bytes != 0)) throw AcceleratorError("a load DMA belongs to a machine with a load port, and only to one");
        std::fill_n(pixels_.data, pixels_.size, std::uint8_t{0});
        reset();
        if (status().has_load_port != (machine::load_bytes != 0)) throw AcceleratorError("the bitstream is of another design than machine.hpp");
    }

    std::size_t max_batch() const {
        const std::size_t most = machine::max_transfer / std::max(machine::frame_bytes, machine::answer_bytes);
        return std::min({pixels_.size / machine::frame_bytes, answers_.size / machine::answer_bytes, most});
    }

    Status status() {
        const std::uint32_t word = control_.read(gpio_status);
        return {(word & 0x80) != 0, word & 0xF, (word & 0x100) != 0, (word & 0x200) != 0, word >> 16 & 0xFF, word >> 24 & 0xFF};
    }

    // Everything stops: frames in work and loaded weights are forgotten.
    void reset() {
        control_.write(gpio_control, 1);
        reset_channel(send_);  // resets both directions
        if (load_registers_ != nullptr) {
            DmaChannel load(*load_registers_, DmaChannel::mm2s);
            reset_channel(load);
            load.start();
        }
        control_.write(gpio_control, 0);
        send_.start();
        receive_.start();
    }

    // weights.bin of the export, or an image of `fpga-squeeze weights`, in memory that the DMA reaches.
    void load_weights(DmaBuffer image) {
        if (load_registers_ == nullptr) throw AcceleratorError("this machine has its weights in the bitstream");
        DmaChannel load(*load_registers_, DmaChannel::mm2s);
        load.transfer(image.physical, image.size);
        wait("the weights", {{"load_dma send", &load}});
        const Status now = status();
        if (!now.ready || now.load != 4) throw AcceleratorError("the machine refuses the weights: " + now.text());
    }

    // images: count frames of height x width x channels bytes, red first.
    std::vector<Answer> run(const std::uint8_t* images, std::size_t count) {
        std::vector<Answer> result;
        for (std::size_t done = 0; done < count;) {
            const std::size_t part = std::min(count - done, max_batch());
            pad(images + done * machine::pixels * machine::channels, part);
            batch(part);
            for (std::size_t i = 0; i < part; ++i) result.push_back(decode(answers_.data + i * machine::answer_bytes));
            done += part;
        }
        return result;
    }

private:
    static constexpr std::uint32_t gpio_control = 0x0, gpio_status = 0x8;
    using Named = std::vector<std::pair<const char*, DmaChannel*>>;

    void reset_channel(DmaChannel& channel) {
        channel.request_reset();
        const double end = clock_.seconds() + timeout_s_;
        while (channel.resetting())
            if (clock_.seconds() > end) throw AcceleratorError("the DMA does not leave its reset");
    }

    void pad(const std::uint8_t* images, std::size_t count) {
        for (std::size_t i = 0; i < count * machine::pixels; ++i)
            std::memcpy(pixels_.data + i * machine::pixel_bytes, images + i * machine::channels, machine::channels);
    }

    void batch(std::size_t count) {
        const Status before = status();
        if (!before.ready) throw AcceleratorError("the machine takes no frames: " + before.text());
        const std::size_t size = count * machine::answer_bytes;
        receive_.transfer(answers_.physical, size);
        send_.transfer(pixels_.physical, count * machine::frame_bytes);
        wait("a batch of " + std::to_string(count) + " frames", {{"dma send", &send_}, {"dma receive", &receive_}});
        const Status after = status();
        const std::size_t came = receive_.transferred();
        if (came != size || after.frame_error) {
            reset();
            throw AcceleratorError(std::to_string(size) + " bytes of class sums were expected, " + std::to_string(came) + " came; " + after.text());
        }
    }

    void wait(const std::string& what, Named pending) {
        const double end = clock_.seconds() + timeout_s_;
        while (!pending.empty()) {
            const bool late = clock_.seconds() > end;
            Named waiting;
            for (const auto& [name, channel] : pending) {
                if (const std::uint32_t errors = channel->errors()) {
                    const std::string report = status().text();
                    reset();
                    throw AcceleratorError(what + ": " + name + " reports" + DmaChannel::describe(errors) + "; " + report);
                }
                if (!channel->idle()) waiting.emplace_back(name, channel);
            }
            if (late && !waiting.empty()) {
                const std::string report = status().text();
                reset();
                throw TransferTimeout(what + ": " + waiting.front().first + " not done in time; " + report);
            }
            pending = waiting;
        }
    }

    static std::uint64_t word(const std::uint8_t* at, std::size_t bytes) {
        std::uint64_t value = 0;
        for (std::size_t i = bytes; i-- > 0;) value = value << 8 | at[i];
        return value;
    }

    static Answer decode(const std::uint8_t* at) {
        Answer answer;
        for (std::size_t i = 0; i < machine::out_beats; ++i, at += machine::out_bytes) {
            const std::uint64_t sum = word(at, machine::sum_bytes);
            answer.sums.push_back(machine::sum_bytes == 4 ? static_cast<std::int32_t>(sum) : static_cast<std::int64_t>(sum));
            answer.classes.push_back(static_cast<std::uint32_t>(machine::index_bytes ? word(at + machine::sum_bytes, machine::index_bytes) : i));
        }
        return answer;
    }

    DmaChannel send_, receive_;
    Registers& control_;
    Registers* load_registers_;
    DmaBuffer pixels_, answers_;
    Clock& clock_;
    double timeout_s_;
};

}  // namespace fsq
