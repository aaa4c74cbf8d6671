// SPDX-License-Identifier: Apache-2.0
// The batch's columns by item, on both backends: an open-addressed hash table whose slots hold a
// chain of columns. Its size goes by the batch, not by the catalogue.
#pragma once

#include <cstdint>

#include "kernels/core/philox.hpp"

namespace belfry::batch_masks_table {

/// Slots start as bytes 0xFF; so an empty key is -1, and chains end with -1.
struct Slot {
  std::int32_t item;
  std::int32_t head;        ///< a column of the item, the others follow in Table::next
  std::int32_t count_less;  ///< columns of the item, less one
};

struct Table {
  Slot* slots = nullptr;
  std::int32_t* next = nullptr;  ///< [C]
  std::uint32_t mask = 0;        ///< slots - 1, slots a power of two
};

/// At most half of the slots are taken.
inline std::int64_t slots_for(std::int64_t columns) {
  std::int64_t slots = 2;
  while (slots < 2 * columns) slots *= 2;
  return slots;
}

/// Where the search for an item begins (multiplicative hashing: the upper bits are the good ones).
BELFRY_HD inline std::uint32_t first_slot(const Table& t, std::int32_t item) {
  const std::uint32_t product = static_cast<std::uint32_t>(item) * 0x9E3779B9u;
  return (product ^ (product >> 16)) & t.mask;
}

/// The item's slot; one with item -1 if no column holds it.
BELFRY_HD inline const Slot& find(const Table& t, std::int32_t item) {
  std::uint32_t s = first_slot(t, item);
  while (t.slots[s].item != item && t.slots[s].item != -1) s = (s + 1) & t.mask;
  return t.slots[s];
}

}  // namespace belfry::batch_masks_table
