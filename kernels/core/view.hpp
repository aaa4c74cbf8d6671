// SPDX-License-Identifier: Apache-2.0
// Plain, non-owning views, passed by value; usable in device code. They never allocate or check.
#pragma once

#include <cstdint>
#include <type_traits>

namespace belfry {

/// A row-major matrix [rows, cols] whose rows start `pitch` elements apart (pitch >= cols).
template <class T>
struct Matrix {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t pitch = 0;

  constexpr Matrix() = default;
  constexpr Matrix(T* d, std::int64_t r, std::int64_t c) : data(d), rows(r), cols(c), pitch(c) {}
  constexpr Matrix(T* d, std::int64_t r, std::int64_t c, std::int64_t p)
      : data(d), rows(r), cols(c), pitch(p) {}

  constexpr T* row(std::int64_t i) const { return data + i * pitch; }
  constexpr T& operator()(std::int64_t i, std::int64_t j) const { return data[i * pitch + j]; }
  constexpr bool empty() const { return rows == 0 || cols == 0; }
  constexpr bool contiguous() const { return pitch == cols || rows <= 1; }

  /// Rows first .. first+n-1.
  constexpr Matrix slice(std::int64_t first, std::int64_t n) const {
    return {data + first * pitch, n, cols, pitch};
  }
  /// Columns first .. first+n-1 of all rows: how a concatenation's parts are addressed.
  constexpr Matrix columns(std::int64_t first, std::int64_t n) const {
    return {data + first, rows, n, pitch};
  }
  constexpr operator Matrix<const T>() const requires(!std::is_const_v<T>) {
    return {data, rows, cols, pitch};
  }
};

/// n contiguous elements.
template <class T>
struct Vector {
  T* data = nullptr;
  std::int64_t size = 0;

  constexpr Vector() = default;
  constexpr Vector(T* d, std::int64_t n) : data(d), size(n) {}
  constexpr T& operator[](std::int64_t i) const { return data[i]; }
  constexpr T* begin() const { return data; }
  constexpr T* end() const { return data + size; }
  constexpr bool empty() const { return size == 0; }
  constexpr operator Vector<const T>() const requires(!std::is_const_v<T>) { return {data, size}; }
};

/// A count that depends on data: the value lies in the backend's memory, the host knows a bound.
/// Grids and scratch depend on `capacity` alone, so that a captured step stays valid.
struct Count {
  const std::int64_t* value = nullptr;
  std::int64_t capacity = 0;
};

/// Bags of table rows: bag b holds ids[offsets[b]] .. ids[offsets[b+1]-1].
/// offsets == nullptr means exactly one id a bag (then ids has `bags` entries).
/// weights == nullptr means weight 1 for each id.
struct Ragged {
  const std::int32_t* ids = nullptr;
  const std::int64_t* offsets = nullptr;
  const float* weights = nullptr;
  std::int64_t bags = 0;
  std::int64_t nnz = 0;  ///< number of ids; == bags without offsets
};

/// One ragged list of rows per query, each ascending without repeats; offsets == nullptr: no lists.
struct RowLists {
  const std::int64_t* offsets = nullptr;  ///< [queries + 1]
  const std::int32_t* rows = nullptr;
};

}  // namespace belfry
