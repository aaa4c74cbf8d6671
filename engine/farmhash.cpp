// SPDX-License-Identifier: Apache-2.0
// The function that FarmHash calls Hash64 of its "na" family, written after its public description:
// short texts in three size classes, long ones in blocks of 64 bytes over seven words of state.
#include "engine/farmhash.hpp"

#include <bit>
#include <cstring>
#include <utility>

namespace belfry {
namespace {

using u64 = std::uint64_t;

constexpr u64 k0 = 0xc3a5c85c97cb3127u;
constexpr u64 k1 = 0xb492b66fbe98f273u;
constexpr u64 k2 = 0x9ae16a3b2f90404fu;

template <typename T>
u64 fetch(const char* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  if constexpr (std::endian::native == std::endian::big) {
    T swapped = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      swapped = static_cast<T>((swapped << 8) | ((value >> (8 * i)) & 0xff));
    }
    value = swapped;
  }
  return value;
}
u64 word(const char* p) {
  return fetch<u64>(p);
}
u64 half(const char* p) {
  return fetch<std::uint32_t>(p);
}
u64 byte(const char* p) {
  return static_cast<unsigned char>(*p);
}

u64 shift_mix(u64 v) {
  return v ^ (v >> 47);
}

u64 mix(u64 u, u64 v, u64 multiplier) {
  const u64 a = shift_mix((u ^ v) * multiplier);
  return shift_mix((v ^ a) * multiplier) * multiplier;
}

u64 up_to_16(const char* s, std::size_t size) {
  const u64 multiplier = k2 + size * 2;
  if (size >= 8) {
    const u64 a = word(s) + k2, b = word(s + size - 8);
    return mix(std::rotr(b, 37) * multiplier + a, (std::rotr(a, 25) + b) * multiplier, multiplier);
  }
  if (size >= 4) return mix(size + (half(s) << 3), half(s + size - 4), multiplier);
  if (size == 0) return k2;
  const u64 y = byte(s) + (byte(s + size / 2) << 8), z = size + (byte(s + size - 1) << 2);
  return shift_mix((y * k2) ^ (z * k0)) * k2;
}

u64 up_to_32(const char* s, std::size_t size) {
  const u64 multiplier = k2 + size * 2;
  const u64 a = word(s) * k1, b = word(s + 8);
  const u64 c = word(s + size - 8) * multiplier, d = word(s + size - 16) * k2;
  return mix(std::rotr(a + b, 43) + std::rotr(c, 30) + d, a + std::rotr(b + k2, 18) + c,
             multiplier);
}

u64 up_to_64(const char* s, std::size_t size) {
  const u64 multiplier = k2 + size * 2;
  const u64 a = word(s) * k2, b = word(s + 8);
  const u64 c = word(s + size - 8) * multiplier, d = word(s + size - 16) * k2;
  const u64 y = std::rotr(a + b, 43) + std::rotr(c, 30) + d;
  const u64 z = mix(y, a + std::rotr(b + k2, 18) + c, multiplier);
  const u64 e = word(s + 16) * multiplier, f = word(s + 24);
  const u64 g = (y + word(s + size - 32)) * multiplier;
  const u64 h = (z + word(s + size - 24)) * multiplier;
  return mix(std::rotr(e + f, 43) + std::rotr(g, 30) + h, e + std::rotr(f + a, 18) + g, multiplier);
}

struct Pair {
  u64 first = 0, second = 0;
};

/// 32 bytes into two seeds.
Pair absorb(const char* s, u64 a, u64 b) {
  const u64 last = word(s + 24);
  a += word(s);
  b = std::rotr(b + a + last, 21);
  const u64 start = a;
  a += word(s + 8) + word(s + 16);
  b += std::rotr(a, 44);
  return {a + last, b + start};
}

struct State {
  u64 x, y, z;
  Pair v, w;

  /// One block of 64 bytes. The last block of a text weighs two of the words ninefold.
  void block(const char* s, u64 multiplier, u64 weight) {
    x = std::rotr(x + y + v.first + word(s + 8), 37) * multiplier;
    y = std::rotr(y + v.second + word(s + 48), 42) * multiplier;
    x ^= w.second * weight;
    y += v.first * weight + word(s + 40);
    z = std::rotr(z + w.first, 33) * multiplier;
    v = absorb(s, v.second * multiplier, x + w.first);
    w = absorb(s + 32, z + w.second, y + word(s + 16));
    std::swap(z, x);
  }
};

u64 longer(const char* s, std::size_t size) {
  constexpr u64 kSeed = 81;
  State t{kSeed, kSeed * k1 + 113, 0, {}, {}};
  t.z = shift_mix(t.y * k2 + 113) * k2;
  t.x = t.x * k2 + word(s);
  const char* const end = s + (size - 1) / 64 * 64;
  const u64 rest = (size - 1) & 63;
  for (const char* p = s; p != end; p += 64) t.block(p, k1, 1);
  const u64 multiplier = k1 + ((t.z & 0xff) << 1);
  t.w.first += rest;
  t.v.first += t.w.first;
  t.w.first += t.v.first;
  t.block(s + size - 64, multiplier, 9);
  return mix(mix(t.v.first, t.w.first, multiplier) + shift_mix(t.y) * k0 + t.z,
             mix(t.v.second, t.w.second, multiplier) + t.x, multiplier);
}

}  // namespace

std::uint64_t fingerprint64(std::string_view text) {
  const char* const s = text.data();
  const std::size_t size = text.size();
  if (size <= 16) return up_to_16(s, size);
  if (size <= 32) return up_to_32(s, size);
  if (size <= 64) return up_to_64(s, size);
  return longer(s, size);
}

}  // namespace belfry
