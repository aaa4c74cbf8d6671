// SPDX-License-Identifier: Apache-2.0
#include "tests/support/golden.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>

namespace belfry::test {

double number(const Json& json) {
  if (json.is_string()) {
    const auto& s = json.get_ref<const std::string&>();
    if (s == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (s == "inf") return std::numeric_limits<double>::infinity();
    if (s == "-inf") return -std::numeric_limits<double>::infinity();
  }
  if (json.is_boolean()) return json.get<bool>() ? 1 : 0;
  return json.get<double>();
}

std::int64_t Tensor::cols() const {
  std::int64_t n = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) n *= shape[i];
  return n;
}

Tensor tensor(const Json& json) {
  Tensor t;
  if (!json.is_object()) {
    t.dtype = "f64";
    if (json.is_array()) {
      t.shape = {static_cast<std::int64_t>(json.size())};
      for (const Json& v : json) t.data.push_back(number(v));
    } else {
      t.data.push_back(number(json));
    }
    return t;
  }
  t.dtype = json.at("dtype").get<std::string>();
  t.shape = json.at("shape").get<std::vector<std::int64_t>>();
  for (const Json& v : json.at("data")) {
    if (t.dtype == "str") {
      t.text.push_back(v.get<std::string>());
    } else {
      t.data.push_back(number(v));
      if (v.is_number_integer()) {
        t.integers.push_back(v.is_number_unsigned()
                                 ? static_cast<std::int64_t>(v.get<std::uint64_t>())
                                 : v.get<std::int64_t>());
      }
    }
  }
  return t;
}

std::vector<std::filesystem::path> golden_files(const std::string& topic) {
  const char* dir = std::getenv("BELFRY_GOLDEN_DIR");
  const std::filesystem::path root =
      dir != nullptr && *dir != 0 ? dir : BELFRY_SOURCE_DIR "/tests/golden";
  std::vector<std::filesystem::path> files;
  if (!std::filesystem::is_directory(root)) {
    ADD_FAILURE() << "BELFRY_GOLDEN_DIR names no folder: " << root;
    return files;
  }
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    const std::string stem = entry.path().stem().string();
    if (entry.path().extension() != ".json") continue;
    // retrieval_loss.json, retrieval_loss-7.json, retrieval_loss_seed7.json, retrieval_loss.7.json
    const bool more = stem.size() > topic.size() && stem.rfind(topic, 0) == 0;
    if (stem == topic ||
        (more && std::isalpha(static_cast<unsigned char>(stem[topic.size()])) == 0)) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  if (files.empty() && dir == nullptr) ADD_FAILURE() << "no golden file of topic " << topic;
  return files;
}

Json load_json(const std::filesystem::path& path) {
  std::ifstream in(path);
  return Json::parse(in);
}

void expect_close(const std::vector<double>& actual, const std::vector<double>& expected,
                  double rtol, double atol, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double worst = 0;
  std::size_t at = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(expected[i]) && std::isnan(actual[i])) continue;
    if (actual[i] == expected[i]) continue;
    const double used = std::abs(actual[i] - expected[i]) / (atol + rtol * std::abs(expected[i]));
    if (!(used <= worst)) {
      worst = std::isnan(used) ? std::numeric_limits<double>::infinity() : used;
      at = i;
    }
  }
  if (!(worst <= 1)) {
    ADD_FAILURE() << what << ": element " << at << " is " << actual[at] << ", expected "
                  << expected[at] << " (" << worst << " x the tolerance)";
  }
}

}  // namespace belfry::test
