// SPDX-License-Identifier: Apache-2.0
#include "kernels/core/branches.hpp"

#include <algorithm>
#include <utility>

namespace belfry::simt {

Branches::Fork::Fork(Branches& owner, int pieces) : owner_(owner) {
  require(owner.open_ == 0, "Branches: a fork inside of a fork");
  const int open = std::clamp(pieces, 1, kMost);
  if (open > 1) owner.forked_.record(owner.main_);
  for (int i = 0; i < open - 1; ++i) {
    owner.side_[static_cast<std::size_t>(i)].wait(owner.forked_);
  }
  owner.open_ = open;
}

Branches::Fork::~Fork() {
  try {
    join();
  } catch (const DeviceError&) {  // of a device that has failed already, which was told
  }
}

Stream& Branches::Fork::branch(int i) const {
  const int number = i % owner_.open_;
  return number == 0 ? owner_.main_ : owner_.side_[static_cast<std::size_t>(number - 1)];
}

void Branches::Fork::join() {
  const int open = std::exchange(owner_.open_, 0);  // joined, whatever comes
  for (int i = 0; i < open - 1; ++i) {
    const auto side = static_cast<std::size_t>(i);
    owner_.joined_[side].record(owner_.side_[side]);
    owner_.main_.wait(owner_.joined_[side]);
  }
}

}  // namespace belfry::simt
