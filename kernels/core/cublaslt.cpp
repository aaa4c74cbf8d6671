// SPDX-License-Identifier: Apache-2.0
#include "kernels/core/cublaslt.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <system_error>

#include "kernels/core/check.hpp"

namespace belfry::cuda {

namespace {

namespace fs = std::filesystem;

// The interface used here is the same in both.
constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

/// The folder above the `bin` of the first python3 on the PATH.
std::string python_prefix() {
  std::istringstream path(environment("PATH"));
  std::error_code none;
  for (std::string folder; std::getline(path, folder, ':');) {
    if (!folder.empty() && fs::exists(fs::path(folder) / "python3", none)) {
      return fs::path(folder).parent_path().string();
    }
  }
  return "";
}

/// `prefix`/lib/python3.*/{site,dist}-packages/nvidia/{cu13,cublas}/lib, as far as they exist.
void add_python_folders(const std::string& prefix, std::vector<std::string>& folders) {
  std::error_code none;
  for (const auto& version : fs::directory_iterator(fs::path(prefix) / "lib", none)) {
    if (version.path().filename().string().rfind("python3", 0) != 0) continue;
    for (const char* packages : {"site-packages", "dist-packages"}) {
      for (const char* package : {"cu13", "cublas"}) {
        const fs::path folder = version.path() / packages / "nvidia" / package / "lib";
        if (fs::is_directory(folder, none)) folders.push_back(folder.string());
      }
    }
  }
}

template <class F>
void look_up(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  if (function == nullptr) throw DeviceError(std::string("it has no ") + name);
}

CublasLt functions_of(void* library) {
  CublasLt table{};
  look_up(library, "cublasLtGetVersion", table.get_version);
  look_up(library, "cublasLtGetStatusString", table.status_string);
  look_up(library, "cublasLtCreate", table.create);
  look_up(library, "cublasLtMatmulDescCreate", table.desc_create);
  look_up(library, "cublasLtMatmulDescDestroy", table.desc_destroy);
  look_up(library, "cublasLtMatmulDescSetAttribute", table.desc_set);
  look_up(library, "cublasLtMatrixLayoutCreate", table.layout_create);
  look_up(library, "cublasLtMatrixLayoutDestroy", table.layout_destroy);
  look_up(library, "cublasLtMatrixLayoutSetAttribute", table.layout_set);
  look_up(library, "cublasLtMatmulPreferenceCreate", table.preference_create);
  look_up(library, "cublasLtMatmulPreferenceDestroy", table.preference_destroy);
  look_up(library, "cublasLtMatmulPreferenceSetAttribute", table.preference_set);
  look_up(library, "cublasLtMatmulAlgoGetHeuristic", table.get_heuristic);
  look_up(library, "cublasLtMatmul", table.matmul);
  return table;
}

}  // namespace

std::vector<std::string> cublaslt_candidates() {
  if (const std::string given = environment("BELFRY_CUBLAS"); !given.empty()) return {given};
  std::vector<std::string> candidates(std::begin(kNames), std::end(kNames)), folders;
  for (const char* root : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const std::string value = environment(root); !value.empty()) {
      folders.push_back(value + "/lib64");
    }
  }
  folders.push_back("/usr/local/cuda/lib64");
  const std::string home = environment("HOME");
  for (const std::string& prefix :
       {environment("VIRTUAL_ENV"), environment("CONDA_PREFIX"), python_prefix(),
        home.empty() ? home : home + "/.local", std::string("/usr/local"), std::string("/usr")}) {
    if (!prefix.empty()) add_python_folders(prefix, folders);
  }
  for (const std::string& folder : folders) {
    for (const char* name : kNames) candidates.push_back(folder + "/" + name);
  }
  return candidates;
}

CublasLt open_cublaslt(const std::vector<std::string>& candidates) {
  std::string tried;
  for (const std::string& candidate : candidates) {
    void* library = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* why = dlerror();
      tried += "\n  " + candidate + ": " + (why != nullptr ? why : "not opened");
      continue;
    }
    try {
      return functions_of(library);
    } catch (const DeviceError& e) {
      dlclose(library);
      tried += "\n  " + candidate + ": " + e.what();
    }
  }
  throw DeviceError(
      "cuBLASLt, needed for matrix products on a GPU, was not found: install the CUDA toolkit's "
      "libcublas, or name the file in BELFRY_CUBLAS\nTried:" +
      tried);
}

const CublasLt& cublaslt() {
  static const CublasLt table = open_cublaslt(cublaslt_candidates());
  return table;
}

}  // namespace belfry::cuda
