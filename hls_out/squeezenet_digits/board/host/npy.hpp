// Reads the golden .npy files of the export: version 1.0, C order, little endian.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace fsq {

// All values of the file in order. `descr`: numpy's name of the type, such as "<i8". Throws std::runtime_error that names the file.
template <typename T>
std::vector<T> read_npy(const std::string& path, const std::string& descr) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + ": cannot be read");
    const std::string data(std::istreambuf_iterator<char>(file), {});
    if (data.size() < 10 || data.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)) != 0) throw std::runtime_error(path + ": no .npy file of version 1.0");
    const std::size_t start = 10 + static_cast<std::uint8_t>(data[8]) + 256u * static_cast<std::uint8_t>(data[9]);
    const std::string header = data.substr(10, start > 10 ? start - 10 : 0);
    if (start > data.size() || header.find("'" + descr + "'") == std::string::npos || header.find("'fortran_order': False") == std::string::npos)
        throw std::runtime_error(path + ": values of type " + descr + " in C order were expected");
    if ((data.size() - start) % sizeof(T) != 0) throw std::runtime_error(path + ": cut short");
    std::vector<T> values((data.size() - start) / sizeof(T));
    std::memcpy(values.data(), data.data() + start, data.size() - start);
    return values;
}

}  // namespace fsq
