// Register access and the AXI DMA (PG021) in direct register mode: no vendor library, no operating system. C++17.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace fsq {

// A block of 32-bit registers. On a board /dev/mem is behind it (linux_devices.hpp), in a test a model.
class Registers {
public:
    virtual ~Registers() = default;
    virtual std::uint32_t read(std::uint32_t offset) = 0;
    virtual void write(std::uint32_t offset, std::uint32_t value) = 0;
};

// Physically contiguous memory that the DMA reaches and that is not cached, or is kept coherent by other means.
struct DmaBuffer {
    std::uint8_t* data;
    std::uint64_t physical;
    std::size_t size;
};

// Seconds from any start that never run backwards.
class Clock {
public:
    virtual ~Clock() = default;
    virtual double seconds() = 0;
};

class AcceleratorError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

class TransferTimeout : public AcceleratorError {
public:
    using AcceleratorError::AcceleratorError;
};

// One direction of an AXI DMA.
class DmaChannel {
public:
    static constexpr std::uint32_t mm2s = 0x00;
    static constexpr std::uint32_t s2mm = 0x30;

    DmaChannel(Registers& registers, std::uint32_t base) : registers_(registers), base_(base) {}

    // Run bit; interrupts stay off.
    void start() { registers_.write(base_ + control, run); }

    void transfer(std::uint64_t physical, std::size_t bytes) {
        if (status() & halted) throw AcceleratorError("the DMA channel is halted: reset it first");
        registers_.write(base_ + address_low, static_cast<std::uint32_t>(physical));
        registers_.write(base_ + address_high, static_cast<std::uint32_t>(physical >> 32));
        registers_.write(base_ + length, static_cast<std::uint32_t>(bytes));  // this starts it
    }

    bool idle() { return (status() & idle_bit) != 0; }
    std::uint32_t errors() { return status() & error_bits; }
    std::size_t transferred() { return registers_.read(base_ + length); }

    void request_reset() { registers_.write(base_ + control, reset); }
    bool resetting() { return (registers_.read(base_ + control) & reset) != 0; }

    static std::string describe(std::uint32_t errors) {
        std::string text;
        if (errors & 0x10) text += " internal error";
        if (errors & 0x20) text += " slave error";
        if (errors & 0x40) text += " decode error";
        return text;
    }

private:
    static constexpr std::uint32_t control = 0x00, status_offset = 0x04, address_low = 0x18, address_high = 0x1C, length = 0x28;
    static constexpr std::uint32_t run = 0x1, reset = 0x4, halted = 0x1, idle_bit = 0x2, error_bits = 0x70;

    std::uint32_t status() { return registers_.read(base_ + status_offset); }

    Registers& registers_;
    std::uint32_t base_;
};

}  // namespace fsq
