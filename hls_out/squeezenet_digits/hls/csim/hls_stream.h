// hls::stream for a C simulation without a Vitis installation: an unbounded first-in first-out queue with the members the kernels and the
// testbench use. A real installation's header replaces this one.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace hls {

template <typename T>
class stream {
public:
    stream() : stream("unnamed") {}
    explicit stream(const char* name) : name_(name), slots_(16), head_(0), count_(0) {}
    stream(const stream&) = delete;
    stream& operator=(const stream&) = delete;

    bool empty() const { return count_ == 0; }
    bool full() const { return false; }
    std::size_t size() const { return count_; }

    T read() {
        if (count_ == 0) {
            std::fprintf(stderr, "stream %s is read while it is empty\n", name_);
            std::exit(3);
        }
        const std::size_t at = head_;
        head_ = (head_ + 1) & (slots_.size() - 1);
        --count_;
        return slots_[at];
    }

    void read(T& value) { value = read(); }

    bool read_nb(T& value) {
        if (count_ == 0) {
            return false;
        }
        value = read();
        return true;
    }

    void write(const T& value) {
        if (count_ == slots_.size()) {
            grow();
        }
        slots_[(head_ + count_) & (slots_.size() - 1)] = value;
        ++count_;
    }

private:
    // The number of slots stays a power of two, so that positions wrap with a mask.
    void grow() {
        std::vector<T> larger(slots_.size() * 2);
        for (std::size_t i = 0; i < count_; ++i) {
            larger[i] = slots_[(head_ + i) & (slots_.size() - 1)];
        }
        slots_.swap(larger);
        head_ = 0;
    }

    const char* name_;
    std::vector<T> slots_;
    std::size_t head_;
    std::size_t count_;
};

}  // namespace hls
