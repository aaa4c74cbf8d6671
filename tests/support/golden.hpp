// SPDX-License-Identifier: Apache-2.0
// Golden files: numbers computed by TFRS and Keras. BELFRY_GOLDEN_DIR names another folder of files of
// the same schema.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace belfry::test {

using Json = nlohmann::json;

/// A tensor of a golden file. Numbers are kept as float64 ("nan", "inf", "-inf" understood), strings in
/// `text`, 64-bit integers in `integers` too.
struct Tensor {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::vector<double> data;
  std::vector<std::int64_t> integers;
  std::vector<std::string> text;
  std::int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  std::int64_t cols() const;  ///< product of all but the first extent
  std::vector<float> floats() const { return {data.begin(), data.end()}; }
};
Tensor tensor(const Json& json);  ///< also plain numbers (shape []) and lists of numbers
double number(const Json& json);  ///< a plain number, or "nan", "inf", "-inf"

/// The golden files of a topic ("retrieval_loss": retrieval_loss.json, retrieval_loss-7.json, ...), from
/// BELFRY_GOLDEN_DIR or tests/golden. Fails the current test when there is none.
std::vector<std::filesystem::path> golden_files(const std::string& topic);
Json load_json(const std::filesystem::path& path);

/// |actual - expected| <= atol + rtol |expected| for every element (nan equals nan); reports the worst
/// element and the share of the tolerance used.
void expect_close(const std::vector<double>& actual, const std::vector<double>& expected,
                  double rtol, double atol, const std::string& what);

}  // namespace belfry::test
