// SPDX-License-Identifier: Apache-2.0
#include "engine/category_encoding.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

using Categories = std::vector<std::int64_t>;
using Floats = std::vector<float>;

Floats encoded(const Categories& categories, const Floats& weights, EncodingMode mode) {
  Floats columns(4, 9.0f);
  encode_categories(categories, weights, mode, columns);
  return columns;
}

TEST(CategoryEncoding, Modes) {
  EXPECT_EQ(encoded({2}, {}, EncodingMode::one_hot), (Floats{0, 0, 1, 0}));
  EXPECT_EQ(encoded({3, 0, 3}, {}, EncodingMode::multi_hot), (Floats{1, 0, 0, 1}));
  EXPECT_EQ(encoded({3, 0, 3}, {}, EncodingMode::count), (Floats{1, 0, 0, 2}));
  EXPECT_EQ(encoded({3, 0, 3}, {0.5f, -1, 0.25f}, EncodingMode::count), (Floats{-1, 0, 0, 0.75f}));
  EXPECT_EQ(encoded({}, {}, EncodingMode::multi_hot), (Floats{0, 0, 0, 0}));
  EXPECT_EQ(encoded({}, {}, EncodingMode::count), (Floats{0, 0, 0, 0}));
}

TEST(CategoryEncoding, Faults) {
  const auto fails = [](const Categories& c, const Floats& w, EncodingMode mode) {
    return error_of([&] { encoded(c, w, mode); }).code() == ExitCode::bad_data;
  };
  EXPECT_TRUE(fails({4}, {}, EncodingMode::multi_hot));
  EXPECT_TRUE(fails({-1}, {}, EncodingMode::count));
  EXPECT_TRUE(fails({}, {}, EncodingMode::one_hot));
  EXPECT_TRUE(fails({1, 1}, {}, EncodingMode::one_hot));
  EXPECT_TRUE(fails({1}, {2}, EncodingMode::multi_hot));
  EXPECT_TRUE(fails({1, 2}, {2}, EncodingMode::count));
}

}  // namespace
}  // namespace belfry::test
