// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/field_scan.cpp"
#include "hwy/foreach_target.h"
// foreach_target first: it includes this file once for each instruction set
#include "engine/field_scan.hpp"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace belfry {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void MarkStructure(const char* data, std::size_t size, char delimiter, std::uint64_t* bits) {
  const std::size_t words = size / 64 + 1;
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  for (std::size_t w = 0; w < words; ++w) {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < 64; ++i) {
      const char c = data[w * 64 + i];
      word |= std::uint64_t{c == delimiter || c == '\n' || c == '\r'} << i;
    }
    bits[w] = word;
  }
#else
  const hn::CappedTag<std::uint8_t, 64> d;
  const auto wanted = hn::Set(d, static_cast<std::uint8_t>(delimiter));
  const auto line_feed = hn::Set(d, std::uint8_t{'\n'});
  const auto carriage_return = hn::Set(d, std::uint8_t{'\r'});
  const auto* in = reinterpret_cast<const std::uint8_t*>(data);
  auto* out = reinterpret_cast<std::uint8_t*>(bits);
  const std::size_t lanes = hn::Lanes(d);
  for (std::size_t i = 0; i < words * 64; i += lanes) {
    const auto v = hn::LoadU(d, in + i);
    const auto hit =
        hn::Or(hn::Or(hn::Eq(v, wanted), hn::Eq(v, line_feed)), hn::Eq(v, carriage_return));
    hn::StoreMaskBits(d, hit, out + i / 8);
  }
#endif
  bits[words - 1] &= (std::uint64_t{1} << (size % 64)) - 1;
}

}  // namespace HWY_NAMESPACE
}  // namespace belfry
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace belfry {
HWY_EXPORT(MarkStructure);
void mark_structure(const char* data, std::size_t size, char delimiter, std::uint64_t* bits) {
  HWY_DYNAMIC_DISPATCH(MarkStructure)(data, size, delimiter, bits);
}
}  // namespace belfry
#endif
