// SPDX-License-Identifier: Apache-2.0
// The tests of many source files as one program, a file at a time:
//   --files       prints the files that have tests, without folder and suffix, and ends
//   --file STEM   runs the tests of STEM alone
// Else as GoogleTest's own main function. So each file is a process of its own, with a result and a time limit of
// its own, and a GPU that one of them leaves unusable is there for the next, while the kernels are carried once.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <string>
#include <string_view>

namespace {

std::string stem_of(std::string_view path) {
  const std::string_view name = path.substr(path.find_last_of('/') + 1);
  return std::string(name.substr(0, name.find('.')));
}

/// Filters of GoogleTest by file.
std::map<std::string, std::string> filters() {
  std::map<std::string, std::string> found;
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  for (int s = 0; s < all.total_test_suite_count(); ++s) {
    const testing::TestSuite& suite = *all.GetTestSuite(s);
    for (int t = 0; t < suite.total_test_count(); ++t) {
      const testing::TestInfo& test = *suite.GetTestInfo(t);
      found[stem_of(test.file())] += std::string(suite.name()) + "." + test.name() + ":";
    }
  }
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const std::string option = argc > 1 ? argv[1] : "";
  if (option == "--files") {
    for (const auto& [stem, filter] : filters()) std::puts(stem.c_str());
    return 0;
  }
  if (option == "--file") {
    const std::map<std::string, std::string> known = filters();
    const auto found = known.find(argc > 2 ? argv[2] : "");
    if (found == known.end()) {
      std::fprintf(stderr, "error: --file wants one of those that --files prints\n");
      return 2;
    }
    GTEST_FLAG_SET(filter, found->second);
  }
  return RUN_ALL_TESTS();
}
