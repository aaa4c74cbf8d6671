// SPDX-License-Identifier: Apache-2.0
// The executor's face towards kernels, part 3: atomics, for the types that CUDA has them for.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <type_traits>

#include "host/builtins.hpp"

namespace belfry::simt::host {

/// Tells the checker, and may let another thread run first.
void before_atomic(void* word, std::size_t bytes, const void* caller);

template <class T, class F>
SIMT_UNCHECKED T update(T* word, F next) {
  before_atomic(word, sizeof(T), __builtin_return_address(0));
  const T old = *word;
  *word = next(old);
  return old;
}

template <class T, class... U>
concept OneOf = (std::same_as<T, U> || ...);
template <class T>
concept Word = OneOf<T, int, unsigned, unsigned long long>;
template <class T>
concept Ordered = OneOf<T, int, unsigned, long long, unsigned long long>;
template <class T>
concept Addable = OneOf<T, int, unsigned, unsigned long long, float, double>;
template <class T>
using Same = std::type_identity_t<T>;

/// Integer sums wrap around, without the undefined behaviour of int.
template <class T>
T wrapping_add(T a, T b) {
  if constexpr (std::is_same_v<T, int>) {
    return static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
  } else {
    return a + b;
  }
}

}  // namespace belfry::simt::host

template <belfry::simt::host::Addable T>
T atomicAdd(T* word, belfry::simt::host::Same<T> value) {
  return belfry::simt::host::update(
      word, [value](T old) { return belfry::simt::host::wrapping_add(old, value); });
}
inline float2 atomicAdd(float2* word, float2 value) {
  return belfry::simt::host::update(
      word, [value](float2 old) { return make_float2(old.x + value.x, old.y + value.y); });
}
inline float4 atomicAdd(float4* word, float4 value) {
  return belfry::simt::host::update(word, [value](float4 old) {
    return make_float4(old.x + value.x, old.y + value.y, old.z + value.z, old.w + value.w);
  });
}
template <belfry::simt::host::OneOf<int, unsigned> T>
T atomicSub(T* word, belfry::simt::host::Same<T> value) {
  return belfry::simt::host::update(word, [value](T old) {
    return static_cast<T>(static_cast<unsigned>(old) - static_cast<unsigned>(value));
  });
}
template <belfry::simt::host::Ordered T>
T atomicMin(T* word, belfry::simt::host::Same<T> value) {
  return belfry::simt::host::update(word, [value](T old) { return std::min(old, value); });
}
template <belfry::simt::host::Ordered T>
T atomicMax(T* word, belfry::simt::host::Same<T> value) {
  return belfry::simt::host::update(word, [value](T old) { return std::max(old, value); });
}
template <belfry::simt::host::Word T>
T atomicAnd(T* word, belfry::simt::host::Same<T> value) {
  return belfry::simt::host::update(word, [value](T old) { return old & value; });
}
template <belfry::simt::host::Word T>
T atomicOr(T* word, belfry::simt::host::Same<T> value) {
  return belfry::simt::host::update(word, [value](T old) { return old | value; });
}
template <belfry::simt::host::Word T>
T atomicXor(T* word, belfry::simt::host::Same<T> value) {
  return belfry::simt::host::update(word, [value](T old) { return old ^ value; });
}
template <belfry::simt::host::OneOf<int, unsigned, unsigned long long, float> T>
T atomicExch(T* word, belfry::simt::host::Same<T> value) {
  return belfry::simt::host::update(word, [value](T) { return value; });
}
template <belfry::simt::host::OneOf<int, unsigned, unsigned long long, unsigned short> T>
T atomicCAS(T* word, belfry::simt::host::Same<T> expected, belfry::simt::host::Same<T> value) {
  return belfry::simt::host::update(
      word, [expected, value](T old) { return old == expected ? value : old; });
}
inline unsigned atomicInc(unsigned* word, unsigned limit) {
  return belfry::simt::host::update(word,
                                    [limit](unsigned old) { return old >= limit ? 0u : old + 1; });
}
inline unsigned atomicDec(unsigned* word, unsigned limit) {
  return belfry::simt::host::update(
      word, [limit](unsigned old) { return old == 0 || old > limit ? limit : old - 1; });
}
