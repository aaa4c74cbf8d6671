// SPDX-License-Identifier: Apache-2.0
// Runs a test on every instruction set that this processor has and the build compiled; on the device once.
#pragma once

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include "tests/support/device_twin.hpp"

namespace belfry::test {

template <class F>
void for_each_target(F&& f) {
  if (on_device()) return f();
  for (const auto target : hwy::SupportedAndGeneratedTargets()) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    f();
    hwy::SetSupportedTargetsForTest(0);
  }
}

}  // namespace belfry::test
