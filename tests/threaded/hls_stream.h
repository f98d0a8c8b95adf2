// hls::stream for tests: of a bounded depth, blocking, between processes that run in threads of their own. Stands in for csim/hls_stream.h, whose
// streams are unbounded and hide a deadlock. When nothing moves for five seconds the program ends with exit code 3.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace hls {

inline std::atomic<unsigned long long>& moves() {
    static std::atomic<unsigned long long> count(0);
    return count;
}

template <typename T>
class stream {
public:
    stream() : stream("unnamed") {}
    explicit stream(const char* name) : name_(name), depth_(static_cast<std::size_t>(-1)) {}
    stream(const stream&) = delete;
    stream& operator=(const stream&) = delete;

    void bound(std::size_t depth) { depth_ = depth; }

    bool empty() const {
        std::lock_guard<std::mutex> hold(lock_);
        return beats_.empty();
    }

    T read() {
        std::unique_lock<std::mutex> hold(lock_);
        wait(hold, "read", [this] { return !beats_.empty(); });
        const T value = beats_.front();
        beats_.pop_front();
        ++moves();
        changed_.notify_all();
        return value;
    }

    void write(const T& value) {
        std::unique_lock<std::mutex> hold(lock_);
        wait(hold, "written", [this] { return beats_.size() < depth_; });
        beats_.push_back(value);
        ++moves();
        changed_.notify_all();
    }

private:
    void wait(std::unique_lock<std::mutex>& hold, const char* what, const std::function<bool()>& ready) {
        unsigned long long before = moves();
        while (!changed_.wait_for(hold, std::chrono::seconds(5), ready)) {
            if (moves() == before) {
                std::fprintf(stderr, "deadlock: stream %s cannot be %s\n", name_, what);
                std::_Exit(3);
            }
            before = moves();
        }
    }

    const char* name_;
    std::size_t depth_;
    std::deque<T> beats_;
    mutable std::mutex lock_;
    std::condition_variable changed_;
};

// Runs the processes of a dataflow body at the same time; its end waits for them all.
class dataflow {
public:
    ~dataflow() {
        for (std::thread& thread : threads_) {
            thread.join();
        }
    }

    void run(const std::function<void()>& process) { threads_.emplace_back(process); }

private:
    std::vector<std::thread> threads_;
};

}  // namespace hls
