// SPDX-License-Identifier: Apache-2.0
// Finding and opening cuBLASLt.
#include "kernels/core/cublaslt.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "kernels/core/check.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

using cuda::cublaslt_candidates;
using cuda::open_cublaslt;

/// A variable of the environment, set or (nullptr) unset for a scope.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) before_ = old;
    set(value);
  }
  ~ScopedVariable() { set(before_ ? before_->c_str() : nullptr); }

 private:
  void set(const char* value) {
    if (value != nullptr) {
      setenv(name_, value, 1);
    } else {
      unsetenv(name_);
    }
  }
  const char* name_;
  std::optional<std::string> before_;
};

std::size_t place_of(const std::vector<std::string>& all, const std::string& one) {
  return static_cast<std::size_t>(std::find(all.begin(), all.end(), one) - all.begin());
}

TEST(CublasLt, AGivenFileIsTheOnlyCandidate) {
  const ScopedVariable given("BELFRY_CUBLAS", "/some/where/libcublasLt.so");
  EXPECT_EQ(cublaslt_candidates(), std::vector<std::string>{"/some/where/libcublasLt.so"});
}

TEST(CublasLt, LoaderThenToolkitThenPython) {
  const TempFolder folder;
  const std::string prefix = folder.path().string();
  const auto lib = [&](const char* python, const char* packages, const char* package) {
    const auto path = folder.path() / "lib" / python / packages / "nvidia" / package / "lib";
    std::filesystem::create_directories(path);
    return path.string() + "/libcublasLt.so.13";
  };
  const std::string cu13 = lib("python3.11", "site-packages", "cu13");
  const std::string older = lib("python3.12", "dist-packages", "cublas");
  const std::string other = lib("ruby", "site-packages", "cu13");
  std::filesystem::create_directories(folder.path() / "bin");
  std::ofstream(folder.path() / "bin" / "python3") << "";
  const ScopedVariable given("BELFRY_CUBLAS", nullptr), home("CUDA_HOME", "/toolkit"),
      path("CUDA_PATH", nullptr), conda("CONDA_PREFIX", nullptr), user("HOME", nullptr);
  for (const bool by_path : {false, true}) {
    const ScopedVariable environment("VIRTUAL_ENV", by_path ? nullptr : prefix.c_str());
    const std::string search = by_path ? "/nowhere::" + prefix + "/bin" : "/nowhere";
    const ScopedVariable binaries("PATH", search.c_str());
    const auto found = cublaslt_candidates();
    EXPECT_EQ(found[0], "libcublasLt.so.13");
    EXPECT_EQ(found[1], "libcublasLt.so.12");
    EXPECT_EQ(found[2], "/toolkit/lib64/libcublasLt.so.13");
    EXPECT_LT(place_of(found, "/toolkit/lib64/libcublasLt.so.12"),
              place_of(found, "/usr/local/cuda/lib64/libcublasLt.so.13"));
    EXPECT_LT(place_of(found, "/usr/local/cuda/lib64/libcublasLt.so.13"), place_of(found, cu13));
    EXPECT_LT(place_of(found, cu13), found.size());
    EXPECT_LT(place_of(found, older), found.size());
    EXPECT_EQ(place_of(found, other), found.size());
  }
}

TEST(CublasLt, AMissingLibraryIsAnErrorThatNamesWhatWasTried) {
  try {
    open_cublaslt({"/nowhere/libcublasLt.so.13", "libm.so.6"});
    FAIL() << "opened";
  } catch (const DeviceError& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find("BELFRY_CUBLAS"), std::string::npos) << text;
    EXPECT_NE(text.find("/nowhere/libcublasLt.so.13: "), std::string::npos) << text;
    EXPECT_NE(text.find("libm.so.6: it has no cublasLt"), std::string::npos) << text;
  }
}

TEST(CublasLt, OpensWhereItIsInstalled) {
  const ScopedVariable given("BELFRY_CUBLAS", nullptr);
  std::optional<cuda::CublasLt> table;
  try {
    table = open_cublaslt(cublaslt_candidates());
  } catch (const DeviceError& e) {
    GTEST_SKIP() << e.what();
  }
  EXPECT_GE(table->get_version(), 120000u);
  EXPECT_STRNE(table->status_string(CUBLAS_STATUS_INVALID_VALUE), "");
}

}  // namespace
}  // namespace belfry::test
