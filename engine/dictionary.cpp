// SPDX-License-Identifier: Apache-2.0
// Distinct texts in one pool of bytes. Small decimal numbers, which most id columns consist of, are found
// by a direct table; all else by open addressing over {hash tag, code} slots of 8 bytes.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "engine/dataset.hpp"
#include "engine/error.hpp"

namespace belfry {
namespace {

constexpr std::uint32_t kNotSmall = 0xffffffffu;
constexpr std::size_t kSmallDigits = 6;
constexpr std::size_t kBatch = 256;

/// The value of "0" .. "999999" written without leading zeros; kNotSmall for any other text.
std::uint32_t small_number(std::string_view text) {
  if (text.empty() || text.size() > kSmallDigits) return kNotSmall;
  std::uint32_t value = static_cast<unsigned char>(text[0]) - std::uint32_t{'0'};
  if (value > 9 || (value == 0 && text.size() > 1)) return kNotSmall;
  for (std::size_t i = 1; i < text.size(); ++i) {
    const std::uint32_t digit = static_cast<unsigned char>(text[i]) - std::uint32_t{'0'};
    if (digit > 9) return kNotSmall;
    value = value * 10 + digit;
  }
  return value;
}

/// Upper half: the tag (also the home slot), kept in the slot, so that growing does not touch the texts.
std::uint32_t tag_of(std::string_view text) {
  return static_cast<std::uint32_t>(XXH3_64bits(text.data(), text.size()) >> 32);
}

}  // namespace

struct Dictionary::Impl {
  struct Slot {
    std::uint32_t tag = 0;
    std::uint32_t code_plus_one = 0;  ///< 0: free
  };

  std::string_view text(std::uint32_t code) const {
    const std::uint64_t begin = code == 0 ? 0 : ends[code - 1];
    return {pool.data() + begin, static_cast<std::size_t>(ends[code] - begin)};
  }

  std::uint32_t append(std::string_view text) {
    if (ends.size() >= 0xfffffffeu) {
      throw Error(ExitCode::bad_data, "", "more than 4,294,967,294 distinct values in a column");
    }
    pool.insert(pool.end(), text.begin(), text.end());
    ends.push_back(pool.size());
    return static_cast<std::uint32_t>(ends.size() - 1);
  }

  std::uint32_t add_small(std::uint32_t value, std::string_view text) {
    if (value >= direct.size()) direct.resize(std::max<std::size_t>(value + 1, direct.size() * 2));
    if (direct[value] == 0) direct[value] = append(text) + 1;
    return direct[value] - 1;
  }

  std::uint32_t add_tagged(std::uint32_t tag, std::string_view text_) {
    if (hashed >= slots.size() / 4 * 3) grow();
    std::size_t at = tag & mask;
    for (; slots[at].code_plus_one != 0; at = (at + 1) & mask) {
      if (slots[at].tag == tag && text(slots[at].code_plus_one - 1) == text_) {
        return slots[at].code_plus_one - 1;
      }
    }
    const std::uint32_t code = append(text_);
    slots[at] = {tag, code + 1};
    ++hashed;
    return code;
  }

  void grow() {
    std::vector<Slot> old(slots.empty() ? 64 : slots.size() * 2);
    old.swap(slots);
    mask = slots.size() - 1;
    for (const Slot& slot : old) {
      if (slot.code_plus_one == 0) continue;
      std::size_t at = slot.tag & mask;
      while (slots[at].code_plus_one != 0) at = (at + 1) & mask;
      slots[at] = slot;
    }
  }

  std::vector<char> pool;
  std::vector<std::uint64_t> ends;
  std::vector<std::uint32_t> direct;  ///< code + 1 of a small number, 0: none
  std::vector<Slot> slots;            ///< a power of two of them
  std::size_t mask = 0, hashed = 0;
};

Dictionary::Dictionary() : impl_(std::make_unique<Impl>()) {}
Dictionary::~Dictionary() = default;
Dictionary::Dictionary(Dictionary&&) noexcept = default;
Dictionary& Dictionary::operator=(Dictionary&&) noexcept = default;

std::uint32_t Dictionary::add(std::string_view text) {
  const std::uint32_t small = small_number(text);
  return small != kNotSmall ? impl_->add_small(small, text) : impl_->add_tagged(tag_of(text), text);
}

void Dictionary::add(const std::string_view* texts, std::size_t count, std::uint32_t* codes) {
  // Hashes first, so that the slots of a whole batch are on their way before the first is looked at.
  std::uint32_t key[kBatch];
  bool is_small[kBatch];
  for (std::size_t begin = 0; begin < count; begin += kBatch) {
    const std::size_t n = std::min(kBatch, count - begin);
    const std::string_view* const text = texts + begin;
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint32_t small = small_number(text[i]);
      is_small[i] = small != kNotSmall;
      key[i] = is_small[i] ? small : tag_of(text[i]);
      if (is_small[i]) {
        if (small < impl_->direct.size()) __builtin_prefetch(&impl_->direct[small]);
      } else if (impl_->mask != 0) {
        __builtin_prefetch(&impl_->slots[key[i] & impl_->mask]);
      }
    }
    for (std::size_t i = 0; i < n; ++i) {
      codes[begin + i] =
          is_small[i] ? impl_->add_small(key[i], text[i]) : impl_->add_tagged(key[i], text[i]);
    }
  }
}

std::optional<std::uint32_t> Dictionary::find(std::string_view text) const {
  const Impl& impl = *impl_;
  if (const std::uint32_t small = small_number(text); small != kNotSmall) {
    if (small >= impl.direct.size() || impl.direct[small] == 0) return std::nullopt;
    return impl.direct[small] - 1;
  }
  if (impl.slots.empty()) return std::nullopt;
  const std::uint32_t tag = tag_of(text);
  for (std::size_t at = tag & impl.mask; impl.slots[at].code_plus_one != 0;
       at = (at + 1) & impl.mask) {
    const Impl::Slot& slot = impl.slots[at];
    if (slot.tag == tag && impl.text(slot.code_plus_one - 1) == text) {
      return slot.code_plus_one - 1;
    }
  }
  return std::nullopt;
}

std::string_view Dictionary::text(std::uint32_t code) const {
  return impl_->text(code);
}
std::size_t Dictionary::size() const {
  return impl_->ends.size();
}

}  // namespace belfry
