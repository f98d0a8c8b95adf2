// Registers over /dev/mem and DMA memory from the u-dma-buf driver, on Linux.
//
// u-dma-buf (https://github.com/ikwzm/udmabuf) gives physically contiguous memory to a program:   insmod u-dma-buf.ko udmabuf0=16777216
// Opened with O_SYNC its memory is not cached, so nothing has to be flushed.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <string>

#include "axi_dma.hpp"

namespace fsq {

class MappedMemory {
public:
    MappedMemory(const std::string& path, std::uint64_t offset, std::size_t size) : size_(size) {
        const int file = ::open(path.c_str(), O_RDWR | O_SYNC);
        if (file < 0) throw AcceleratorError(path + ": cannot be opened (" + std::strerror(errno) + ")");
        address_ = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, static_cast<off_t>(offset));
        const int error = errno;
        ::close(file);
        if (address_ == MAP_FAILED) throw AcceleratorError(path + ": cannot be mapped (" + std::strerror(error) + ")");
    }
    ~MappedMemory() { ::munmap(address_, size_); }
    MappedMemory(const MappedMemory&) = delete;
    MappedMemory& operator=(const MappedMemory&) = delete;

    void* address() const { return address_; }

private:
    void* address_ = nullptr;
    std::size_t size_;
};

class MemRegisters : public Registers {
public:
    explicit MemRegisters(std::uint64_t physical) : memory_("/dev/mem", physical, 0x10000) {}
    std::uint32_t read(std::uint32_t offset) override { return base()[offset / 4]; }
    void write(std::uint32_t offset, std::uint32_t value) override { base()[offset / 4] = value; }

private:
    volatile std::uint32_t* base() const { return static_cast<volatile std::uint32_t*>(memory_.address()); }
    MappedMemory memory_;
};

class UdmaBuffer {
public:
    explicit UdmaBuffer(const std::string& name)
        : size_(static_cast<std::size_t>(attribute(name, "size"))), physical_(attribute(name, "phys_addr")), memory_("/dev/" + name, 0, size_) {}

    // Bytes [offset, offset + size) of the buffer.
    DmaBuffer part(std::size_t offset, std::size_t size) const {
        if (offset > size_ || size > size_ - offset)
            throw AcceleratorError("u-dma-buf of " + std::to_string(size_) + " bytes is too small: " + std::to_string(offset + size) + " are needed");
        return {static_cast<std::uint8_t*>(memory_.address()) + offset, physical_ + offset, size};
    }
    std::size_t size() const { return size_; }

private:
    static std::uint64_t attribute(const std::string& name, const std::string& key) {
        const std::string path = "/sys/class/u-dma-buf/" + name + "/" + key;
        std::ifstream file(path);
        std::string text;
        if (!(file >> text)) throw AcceleratorError(path + ": cannot be read; load the driver with   insmod u-dma-buf.ko " + name + "=16777216");
        return std::stoull(text, nullptr, 0);
    }

    std::size_t size_;
    std::uint64_t physical_;
    MappedMemory memory_;
};

class SteadyClock : public Clock {
public:
    double seconds() override { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
};

}  // namespace fsq
