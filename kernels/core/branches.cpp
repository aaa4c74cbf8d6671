// SPDX-License-Identifier: Apache-2.0
#include "kernels/core/branches.hpp"

#include <algorithm>

namespace belfry::simt {

void Branches::fork(int pieces) {
  require(open_ == 1, "Branches: a fork inside of a fork");
  open_ = std::clamp(pieces, 1, kMost);
  if (open_ == 1) return;
  forked_.record(main_);
  for (int i = 0; i < open_ - 1; ++i) side_[static_cast<std::size_t>(i)].wait(forked_);
}

Stream& Branches::branch(int i) {
  const int number = i % open_;
  return number == 0 ? main_ : side_[static_cast<std::size_t>(number - 1)];
}

void Branches::join() {
  for (std::size_t i = 0; i + 1 < static_cast<std::size_t>(open_); ++i) {
    joined_[i].record(side_[i]);
    main_.wait(joined_[i]);
  }
  open_ = 1;
}

}  // namespace belfry::simt
