// The instructions that multiply bfloat16, in plain C++, for the loops of kernels/product_pairs.hpp and
// product_matrices.hpp on CPUs that lack them: the same sums in the same order.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "kernels/product_matrices.hpp"
#include "kernels/product_pairs.hpp"

namespace bsbr::testing {

/// The numbers of a pair: its first one is the lower half.
inline float first_of(std::uint32_t pair) { return __builtin_bit_cast(float, pair << 16); }
inline float second_of(std::uint32_t pair) { return __builtin_bit_cast(float, pair & 0xffff0000U); }

/// VDPBF16PS: the product of the second numbers is added first (Intel 64 and IA-32 Architectures Software Developer's
/// Manual, volume 2).
struct EmulatedPairs {
  using Row = std::array<std::uint32_t, 16>;
  struct Sums : std::array<float, 16> {
    friend Sums operator+(const Sums& a, const Sums& b) {
      Sums sum;
      for (std::size_t i = 0; i < 16; ++i) sum[i] = a[i] + b[i];
      return sum;
    }
  };

  static Row load(const void* from) {
    Row row;
    std::memcpy(row.data(), from, sizeof(row));
    return row;
  }
  static Row repeat(std::uint32_t pair) {
    Row row;
    row.fill(pair);
    return row;
  }
  static Sums load_sums(const float* from) {
    Sums sums;
    std::memcpy(sums.data(), from, sizeof(sums));
    return sums;
  }
  static void store_sums(float* to, const Sums& sums) { std::memcpy(to, sums.data(), sizeof(sums)); }
  static Sums dot(const Sums& sums, const Row& a, const Row& b) {
    Sums result;
    for (std::size_t i = 0; i < 16; ++i)
      result[i] = sums[i] + second_of(a[i]) * second_of(b[i]) + first_of(a[i]) * first_of(b[i]);
    return result;
  }
};

/// AMX: eight registers of one thread. TDPBF16PS sums up the products of first numbers and of second ones apart, and
/// adds both sums to the register.
struct EmulatedRegisters {
  struct Register {
    int rows;
    std::uint32_t data[16][16];
  };
  static inline thread_local Register registers[8];
  static inline thread_local bool is_configured = false;

  static void configure(kernels::RegisterRows rows) {
    const int wanted[8] = {rows.upper, rows.upper, rows.lower, rows.lower, rows.upper, rows.lower, 16, 16};
    for (int i = 0; i < 8; ++i) {
      registers[i].rows = wanted[i];
      std::memset(registers[i].data, 0, sizeof(registers[i].data));
    }
    is_configured = true;
  }
  static void release() { is_configured = false; }

  static void require(bool holds) {
    if (!holds) throw std::logic_error("the CPU would raise an exception");
  }

  template <int r>
  static void zero() {
    require(is_configured);
    std::memset(registers[r].data, 0, sizeof(registers[r].data));
  }
  template <int r>
  static void load(const void* from, std::int64_t stride) {
    zero<r>();
    for (int row = 0; row < registers[r].rows; ++row)
      std::memcpy(registers[r].data[row], static_cast<const char*>(from) + row * stride, 64);
  }
  template <int r>
  static void store(void* to, std::int64_t stride) {
    require(is_configured);
    for (int row = 0; row < registers[r].rows; ++row)
      std::memcpy(static_cast<char*>(to) + row * stride, registers[r].data[row], 64);
  }
  template <int c, int a, int b>
  static void dot() {
    require(is_configured && registers[a].rows == registers[c].rows && registers[b].rows == 16);
    for (int row = 0; row < registers[c].rows; ++row) {
      for (int column = 0; column < 16; ++column) {
        float firsts = 0, seconds = 0;
        for (int k = 0; k < 16; ++k) {
          const std::uint32_t left = registers[a].data[row][k], right = registers[b].data[k][column];
          firsts += first_of(left) * first_of(right);
          seconds += second_of(left) * second_of(right);
        }
        std::uint32_t& target = registers[c].data[row][column];
        target = __builtin_bit_cast(std::uint32_t, __builtin_bit_cast(float, target) + (firsts + seconds));
      }
    }
  }
};

}  // namespace bsbr::testing
