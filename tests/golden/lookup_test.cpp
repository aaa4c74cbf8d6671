// SPDX-License-Identifier: Apache-2.0
// Preprocessing against Keras: String- and IntegerLookup (rows, learned order, out-of-vocabulary buckets,
// masks, limits, the way back, encoded output), Hashing and the two hashes themselves, Discretization,
// Normalization, CategoryEncoding, TextVectorization; and the placement of TFRS's UnifiedEmbedding.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "engine/category_encoding.hpp"
#include "engine/discretizer.hpp"
#include "engine/farmhash.hpp"
#include "engine/hashing.hpp"
#include "engine/normalizer.hpp"
#include "engine/text_vectorizer.hpp"
#include "engine/vocabulary.hpp"
#include "tests/support/golden.hpp"

namespace belfry::test {
namespace {

/// Strings, or integers as decimal text.
std::vector<std::string> texts(const Json& json) {
  const Json& list = json.is_object() ? json.at("data") : json;
  std::vector<std::string> out;
  for (const Json& v : list) out.push_back(v.is_string() ? v.get<std::string>() : v.dump());
  return out;
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

Vocabulary vocabulary_of(const Json& params, const Json& inputs) {
  VocabularyOptions options;
  const bool integer = params.at("layer") == "IntegerLookup";
  options.type = integer ? IdType::integer : IdType::text;
  options.oov = params.value("num_oov_indices", std::int64_t{1});
  options.oov_token = integer ? "-1" : "[UNK]";
  if (params.contains("oov_token")) options.oov_token = text_of(params["oov_token"]);
  if (params.contains("mask_token") && !params["mask_token"].is_null()) {
    options.mask_token = text_of(params["mask_token"]);
  }
  if (params.contains("max_tokens") && !params["max_tokens"].is_null()) {
    options.max_tokens = params["max_tokens"].get<std::int64_t>();
  }
  if (inputs.contains("vocabulary")) return Vocabulary(texts(inputs["vocabulary"]), {}, options);
  std::map<std::string, std::int64_t> counts;
  for (const std::string& token : texts(inputs.at("adapt_data"))) ++counts[token];
  return Vocabulary::adapt({counts.begin(), counts.end()}, options);
}

/// Options that this test does not know would be left out in silence.
void expect_known(const Json& params, const std::set<std::string>& known) {
  for (const auto& [key, value] : params.items()) {
    EXPECT_TRUE(key == "layer" || known.count(key) == 1) << "unknown option " << key;
  }
}

EncodingMode encoding_mode(const std::string& name) {
  if (name == "one_hot") return EncodingMode::one_hot;
  EXPECT_TRUE(name == "multi_hot" || name == "count" || name == "tf_idf") << name;
  return name == "multi_hot" ? EncodingMode::multi_hot : EncodingMode::count;
}

/// Lines of categories as lines of columns, end to end; negative categories have no column.
std::vector<double> encode(const std::vector<std::vector<std::int64_t>>& lines,
                           const std::vector<std::vector<float>>& weights, EncodingMode mode,
                           std::int64_t columns) {
  std::vector<double> out;
  std::vector<float> line(static_cast<std::size_t>(columns));
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::vector<std::int64_t> categories = lines[i];
    std::erase_if(categories, [](std::int64_t c) { return c < 0; });
    encode_categories(categories, weights.empty() ? std::vector<float>{} : weights[i], mode, line);
    out.insert(out.end(), line.begin(), line.end());
  }
  return out;
}

/// Equal parts of a list.
template <class T>
std::vector<std::vector<T>> lines_of(const std::vector<T>& all, std::int64_t columns) {
  std::vector<std::vector<T>> out;
  for (auto at = all.begin(); at != all.end(); at += columns) out.emplace_back(at, at + columns);
  return out;
}

void check_encoded(const Vocabulary& vocabulary, const Json& params, const Json& inputs,
                   const Json& expected) {
  const Tensor in = tensor(inputs.at("inputs")), out = tensor(expected);
  const std::int64_t mask = vocabulary.options().mask_token ? 1 : 0;  // has no column
  ASSERT_EQ(out.cols(), vocabulary.rows() - mask);
  std::vector<std::int64_t> columns;
  for (const std::string& token : texts(inputs.at("inputs"))) {
    columns.push_back(vocabulary.row(token).value() - mask);
  }
  EXPECT_EQ(
      encode(lines_of(columns, in.cols()), {}, encoding_mode(params["output_mode"]), out.cols()),
      out.data);
}

void check_lookup(const Json& test) {
  const Json &params = test.at("params"), &inputs = test.at("inputs"),
             &expected = test.at("expected");
  expect_known(params, {"mask_token", "num_oov_indices", "oov_token", "max_tokens", "output_mode",
                        "invert", "vocabulary"});
  const Vocabulary vocabulary = vocabulary_of(params, inputs);
  if (expected.contains("vocabulary")) {
    std::vector<std::string> rows;
    for (std::int64_t r = 0; r < vocabulary.rows(); ++r) rows.push_back(vocabulary.inverse(r));
    EXPECT_EQ(rows, texts(expected["vocabulary"]));
  }
  if (expected.contains("index")) {
    std::vector<std::int64_t> rows;
    for (const std::string& token : texts(inputs.at("inputs"))) {
      rows.push_back(vocabulary.row(token).value());
    }
    EXPECT_EQ(rows, tensor(expected["index"]).integers);
  }
  if (expected.contains("token")) {
    std::vector<std::string> tokens;
    for (const std::int64_t row : tensor(inputs.at("inputs")).integers) {
      tokens.push_back(vocabulary.inverse(row));
    }
    EXPECT_EQ(tokens, texts(expected["token"]));
  }
  if (expected.contains("encoded")) check_encoded(vocabulary, params, inputs, expected["encoded"]);
}

void check_raw_hashes(const Json& test) {
  const std::vector<std::string> in = texts(test.at("inputs").at("inputs"));
  const Json& fingerprints = test.at("expected").at("fingerprint64").at("data");
  const Json& siphashes = test.at("expected").at("siphash64").at("data");
  const auto keys = test.at("params").at("siphash_keys").get<std::vector<HashKey>>();
  ASSERT_EQ(in.size(), fingerprints.size());
  ASSERT_EQ(in.size() * keys.size(), siphashes.size());
  for (std::size_t i = 0; i < in.size(); ++i) {
    EXPECT_EQ(fingerprint64(in[i]), fingerprints[i].get<std::uint64_t>()) << in[i];
    for (std::size_t k = 0; k < keys.size(); ++k) {
      EXPECT_EQ(siphash64(in[i], keys[k]), siphashes[i * keys.size() + k].get<std::uint64_t>())
          << in[i] << " under key " << k;
    }
  }
}

void check_hashing(const Json& test) {
  const Json& params = test.at("params");
  expect_known(params, {"num_bins", "salt", "mask_value"});
  HashingOptions options;
  options.bins = params.at("num_bins").get<std::int64_t>();
  if (params.contains("salt")) {
    const Json& salt = params["salt"];
    options.salt = salt.is_array() ? salt.get<HashKey>()
                                   : HashKey{salt.get<std::uint64_t>(), salt.get<std::uint64_t>()};
  }
  if (params.contains("mask_value")) options.mask = text_of(params["mask_value"]);
  const Hashing hashing(options);
  std::vector<std::int64_t> buckets;
  for (const std::string& v : texts(test.at("inputs").at("inputs"))) {
    buckets.push_back(hashing.bucket(v));
  }
  EXPECT_EQ(buckets, tensor(test.at("expected").at("bucket")).integers);
}

void check_discretization(const Json& test) {
  const Json &params = test.at("params"), &inputs = test.at("inputs"),
             &expected = test.at("expected");
  expect_known(params, {"num_bins", "epsilon", "batch"});
  // Buckets are exact, so they are those of the given or of Keras's own boundaries.
  const bool learned = inputs.contains("adapt_data");
  const std::vector<float> boundaries =
      tensor((learned ? expected : inputs).at("boundaries")).floats();
  std::vector<std::int64_t> buckets;
  for (const float x : tensor(inputs.at("inputs")).floats()) {
    buckets.push_back(bucket_of(x, boundaries));
  }
  EXPECT_EQ(buckets, tensor(expected.at("bucket")).integers);
  if (!learned) return;
  const std::vector<float> data = tensor(inputs["adapt_data"]).floats();
  const auto bins = params.at("num_bins").get<std::int64_t>();
  const auto batch = params.at("batch").get<std::size_t>();
  QuantileSketch sketch(params.at("epsilon").get<double>());
  for (std::size_t i = 0; i < data.size(); i += batch) {
    const std::size_t end = std::min(data.size(), i + batch);
    sketch.add({data.begin() + static_cast<std::ptrdiff_t>(i),
                data.begin() + static_cast<std::ptrdiff_t>(end)});
  }
  const std::vector<float> sketched = sketch.boundaries(bins);
  const double rtol = number(test.at("rtol")), atol = number(test.at("atol"));
  expect_close({sketched.begin(), sketched.end()}, tensor(expected["boundaries"]).data, rtol, atol,
               "boundaries of the sketch");
  const std::vector<float> exact = exact_quantiles({data.begin(), data.end()}, bins);
  expect_close({exact.begin(), exact.end()}, tensor(test.at("exact_quantiles")).data, 1e-6, 1e-7,
               "exact quantiles");
}

void check_normalization(const Json& test) {
  const Json &params = test.at("params"), &inputs = test.at("inputs"),
             &expected = test.contains("expected_f64") ? test["expected_f64"] : test.at("expected");
  expect_known(params, {"axis", "batch", "invert"});
  const Tensor in = tensor(inputs.at("inputs"));
  // Nine digits name a float32, and it is that number which counts.
  const auto exact = [](const Tensor& t, std::size_t i) {
    return t.dtype == "f32" ? static_cast<double>(static_cast<float>(t.data[i])) : t.data[i];
  };
  const bool each_column = !params.contains("axis") || !params["axis"].is_null();
  const auto columns = static_cast<std::size_t>(each_column ? in.cols() : 1);
  std::vector<Normalizer> normalizers;
  std::vector<double> means, variances;
  if (inputs.contains("adapt_data")) {
    std::vector<Moments> moments(columns);
    const Tensor data = tensor(inputs["adapt_data"]);
    for (std::size_t i = 0; i < data.data.size(); ++i) moments[i % columns].add(exact(data, i));
    for (const Moments& m : moments) {
      normalizers.emplace_back(m);
      means.push_back(m.mean());
      variances.push_back(m.variance());
    }
  } else {
    const std::vector<double> mean = tensor(inputs.at("mean")).data;
    const std::vector<double> variance = tensor(inputs.at("variance")).data;
    for (std::size_t c = 0; c < columns; ++c) normalizers.emplace_back(mean[c], variance[c]);
  }
  std::vector<double> out;
  for (std::size_t i = 0; i < in.data.size(); ++i) {
    const Normalizer& n = normalizers[i % columns];
    const double x = exact(in, i);
    out.push_back(params.value("invert", false) ? n.invert(x) : n.apply(x));
  }
  const double rtol = number(test.at("rtol")), atol = number(test.at("atol"));
  expect_close(out, tensor(expected.at("y")).data, rtol, atol, "y");
  if (expected.contains("mean")) {
    expect_close(means, tensor(expected["mean"]).data, rtol, atol, "mean");
    expect_close(variances, tensor(expected["variance"]).data, rtol, atol, "variance");
  }
}

void check_category_encoding(const Json& test) {
  const Json &params = test.at("params"), &inputs = test.at("inputs");
  expect_known(params, {"num_tokens", "output_mode"});
  const Tensor in = tensor(inputs.at("inputs"));
  // A list without rows is one sample of several categories.
  const std::int64_t width = in.shape.size() == 1 ? in.shape[0] : in.cols();
  std::vector<std::vector<float>> weights;
  if (inputs.contains("count_weights")) {
    weights = lines_of(tensor(inputs["count_weights"]).floats(), width);
  }
  const std::vector<double> out =
      encode(lines_of(in.integers, width), weights, encoding_mode(params.at("output_mode")),
             params.at("num_tokens").get<std::int64_t>());
  expect_close(out, tensor(test.at("expected").at("encoded")).data, number(test.at("rtol")),
               number(test.at("atol")), "encoded");
}

TextOptions text_options(const Json& params) {
  TextOptions options;
  if (params.contains("standardize")) {
    const std::string rule = params["standardize"].is_null() ? "" : params["standardize"];
    options.lower = rule.find("lower") != std::string::npos;
    options.strip_punctuation = rule.find("strip_punctuation") != std::string::npos;
  }
  if (params.contains("split")) {
    EXPECT_TRUE(params["split"].is_null() || params["split"] == "character");
    options.split = params["split"].is_null() ? TextSplit::none : TextSplit::character;
  }
  if (params.contains("ngrams")) {
    const Json& widths = params["ngrams"];
    if (widths.is_array()) {
      options.ngrams = widths.get<std::vector<int>>();
    } else {
      for (int n = 1; n <= widths.get<int>(); ++n) options.ngrams.push_back(n);
    }
  }
  options.max_tokens = params.value("max_tokens", std::int64_t{0});
  options.padding = params.value("output_mode", "int") == "int";
  return options;
}

TextVectorizer vectorizer_of(const Json& inputs, const TextOptions& options) {
  if (inputs.contains("vocabulary")) return {texts(inputs["vocabulary"]), options};
  const std::vector<std::string> data = texts(inputs.at("adapt_data"));
  return TextVectorizer::adapt(std::vector<std::string_view>(data.begin(), data.end()), options);
}

void check_text(const Json& test) {
  const Json &params = test.at("params"), &inputs = test.at("inputs"),
             &expected = test.at("expected");
  expect_known(params, {"standardize", "split", "ngrams", "max_tokens", "output_mode",
                        "output_sequence_length"});
  const TextVectorizer vectorizer = vectorizer_of(inputs, text_options(params));
  std::vector<std::string> tokens;
  for (std::int64_t r = 0; r < vectorizer.vocabulary().rows(); ++r) {
    tokens.push_back(vectorizer.vocabulary().inverse(r));
  }
  EXPECT_EQ(tokens, texts(expected.at("vocabulary")));
  std::vector<std::vector<std::int64_t>> rows;
  for (const std::string& text : texts(inputs.at("inputs"))) rows.push_back(vectorizer.rows(text));
  const Tensor out = tensor(expected.at("output"));
  if (params.value("output_mode", "int") == "int") {
    std::vector<std::int64_t> padded;
    for (std::vector<std::int64_t>& row : rows) {
      if (!params.contains("output_sequence_length")) {
        EXPECT_LE(static_cast<std::int64_t>(row.size()), out.cols());
      }
      row.resize(static_cast<std::size_t>(out.cols()), 0);
      padded.insert(padded.end(), row.begin(), row.end());
    }
    EXPECT_EQ(padded, out.integers);
    return;
  }
  std::vector<std::vector<float>> weights;
  if (params["output_mode"] == "tf_idf") {
    const std::vector<std::string> data = texts(inputs.at("adapt_data"));
    const std::vector<float> idf = vectorizer.inverse_document_frequencies(
        std::vector<std::string_view>(data.begin(), data.end()));
    for (const auto& row : rows) {
      weights.emplace_back();
      for (const std::int64_t r : row) weights.back().push_back(idf[static_cast<std::size_t>(r)]);
    }
  }
  expect_close(encode(rows, weights, encoding_mode(params["output_mode"]), out.cols()), out.data,
               number(test.at("rtol")), number(test.at("atol")), "output");
}

void check_unified(const Json& test) {
  const Json& params = test.at("params");
  const auto bins = params.at("buckets_per_table").get<std::int64_t>();
  const auto tables = params.at("num_tables").get<std::int64_t>();
  std::vector<std::int64_t> chunks;
  for (const Json& f : params.at("features")) chunks.push_back(f.at("num_chunks"));
  const auto by_number = place_chunks(chunks, tables, false);
  const auto by_name = place_chunks(chunks, tables, true);
  for (std::size_t f = 0; f < chunks.size(); ++f) {
    const std::string name = params["features"][f].at("name");
    const Json& expected = test.at("expected").at(name);
    std::vector<std::int64_t> place, positions, buckets;
    const std::vector<std::string> values = texts(test.at("inputs").at(name));
    buckets.resize(values.size() * static_cast<std::size_t>(chunks[f]));
    std::size_t column = 0;
    for (const UnifiedChunk& c : by_number) {
      if (c.feature != static_cast<int>(f)) continue;
      EXPECT_EQ(c.chunk, static_cast<int>(column));
      place.push_back(c.table);
      const Hashing hashing({bins, c.salt(), {}});
      for (std::size_t i = 0; i < values.size(); ++i) {
        buckets[i * static_cast<std::size_t>(chunks[f]) + column] = hashing.bucket(values[i]);
      }
      ++column;
    }
    for (const UnifiedChunk& c : by_name) {
      if (c.feature == static_cast<int>(f)) positions.push_back(c.chunk);
    }
    EXPECT_EQ(place, expected.at("table_of_chunk").get<std::vector<std::int64_t>>());
    EXPECT_EQ(buckets, tensor(expected.at("bucket")).integers);
    EXPECT_EQ(positions, expected.at("chunk_at_output_position").get<std::vector<std::int64_t>>());
  }
}

TEST(Lookup, AllCases) {
  static const std::map<std::string, void (*)(const Json&)> checks = {
      {"StringLookup", check_lookup},
      {"IntegerLookup", check_lookup},
      {"Hashing", check_hashing},
      {"Discretization", check_discretization},
      {"Normalization", check_normalization},
      {"CategoryEncoding", check_category_encoding},
      {"TextVectorization", check_text}};
  std::size_t checked = 0;
  for (const auto& path : golden_files("lookup")) {
    const Json cases = load_json(path).at("cases");
    for (const Json& test : cases) {
      SCOPED_TRACE(path.filename().string() + ": " + test.at("name").get<std::string>());
      const std::string layer = test.at("params").value("layer", "");
      if (const auto check = checks.find(layer); check != checks.end()) {
        check->second(test);
      } else if (test["params"].contains("siphash_keys")) {
        check_raw_hashes(test);
      } else if (test["params"].contains("num_tables")) {
        check_unified(test);
      } else {
        ADD_FAILURE() << "a layer that no check knows: " << test["params"];
      }
      ++checked;
    }
  }
  EXPECT_TRUE(checked > 0 || golden_files("lookup").empty());
}

}  // namespace
}  // namespace belfry::test
