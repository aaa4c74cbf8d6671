// SPDX-License-Identifier: Apache-2.0
#include "engine/model_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "engine/config_toml.hpp"
#include "engine/error.hpp"
#include "kernels/core/streamed.hpp"

namespace belfry {

namespace {

constexpr const char* kFormat = "belfry-model";
constexpr int kMajor = 1;
constexpr std::int64_t kQueryBatch = 4096;   // rows encoded at a time when answering
constexpr std::int64_t kQuerySteps = 65536;  // or so many steps of sequences

/// Strings as bytes and offsets, kept alive until the writer is done.
struct PackedStrings {
  std::vector<std::uint8_t> bytes;
  std::vector<std::int64_t> offsets{0};
};

PackedStrings pack(const std::vector<std::string>& strings) {
  PackedStrings out;
  for (const std::string& s : strings) {
    out.bytes.insert(out.bytes.end(), s.begin(), s.end());
    out.offsets.push_back(static_cast<std::int64_t>(out.bytes.size()));
  }
  return out;
}

[[noreturn]] void refuse(const SafetensorsFile& file, const std::string& what) {
  throw Error(ExitCode::bad_model, file.path().string(), what);
}

/// Offsets must start at 0, never fall, and end at `last`.
void check_offsets(const SafetensorsFile& file, const std::string& name,
                   const std::vector<std::int64_t>& offsets, std::int64_t last) {
  bool good = !offsets.empty() && offsets.front() == 0 && offsets.back() == last;
  for (std::size_t i = 1; good && i < offsets.size(); ++i) good = offsets[i] >= offsets[i - 1];
  if (!good) refuse(file, "the offsets of " + name + " are not ascending");
}

void check_range(const SafetensorsFile& file, const std::string& name,
                 const std::vector<std::int32_t>& values, std::int64_t limit) {
  for (const std::int32_t v : values) {
    if (v < 0 || v >= limit)
      refuse(file, fmt::format("{} holds {} outside of [0, {})", name, v, limit));
  }
}

std::vector<std::string> unpack(const SafetensorsFile& file, const std::string& name) {
  const auto bytes = file.read_all<std::uint8_t>(name + ".bytes", DType::u8);
  const auto offsets = file.read_all<std::int64_t>(name + ".offsets", DType::i64);
  check_offsets(file, name, offsets, static_cast<std::int64_t>(bytes.size()));
  std::vector<std::string> out;
  out.reserve(offsets.size() - 1);
  for (std::size_t i = 1; i < offsets.size(); ++i) {
    out.emplace_back(bytes.begin() + offsets[i - 1], bytes.begin() + offsets[i]);
  }
  return out;
}

/// A vocabulary's tensors under a prefix: tokens, counts; its options go to the metadata.
class ModelWriter {
 public:
  void strings(const std::string& name, const std::vector<std::string>& values) {
    packed_.push_back(std::make_unique<PackedStrings>(pack(values)));
    const PackedStrings& p = *packed_.back();
    writer_.add(name + ".bytes", DType::u8, {static_cast<std::int64_t>(p.bytes.size())},
                p.bytes.data());
    longs(name + ".offsets", p.offsets);
  }
  void longs(const std::string& name, const std::vector<std::int64_t>& v) {
    writer_.add(name, DType::i64, {static_cast<std::int64_t>(v.size())}, v.data());
  }
  void ints(const std::string& name, const std::vector<std::int32_t>& v) {
    writer_.add(name, DType::i32, {static_cast<std::int64_t>(v.size())}, v.data());
  }
  void floats(const std::string& name, const std::vector<float>& v) {
    writer_.add(name, DType::f32, {static_cast<std::int64_t>(v.size())}, v.data());
  }
  void values(const std::string& name, FeatureForm form, const FeatureValues& v) {
    if (form == FeatureForm::dense) return floats(name + ".numbers", v.numbers);
    ints(name + ".rows", v.rows);
    if (form == FeatureForm::row) return;
    longs(name + ".begin", v.begin);
    longs(name + ".end", v.end);
    if (!v.weights.empty()) floats(name + ".weights", v.weights);
  }
  nlohmann::json vocabulary(const std::string& name, const Vocabulary& v) {
    strings(name, v.all_tokens());
    longs(name + ".counts", v.counts());
    nlohmann::json out = {{"integer", v.options().type == IdType::integer},
                          {"oov", v.options().oov}};
    if (v.options().mask_token) out["mask"] = *v.options().mask_token;
    return out;
  }
  SafetensorsWriter& writer() { return writer_; }
  void save(const std::filesystem::path& path) {
    OutputFile out(path);
    writer_.write(out);
    out.commit();
  }

 private:
  SafetensorsWriter writer_;
  std::vector<std::unique_ptr<PackedStrings>> packed_;
};

std::int64_t oov_rows(const SafetensorsFile& file, const nlohmann::json& options) {
  const auto oov = options.at("oov").get<std::int64_t>();
  if (oov < 0 || oov > INT32_MAX) refuse(file, "a vocabulary has an impossible number of OOV rows");
  return oov;
}

Vocabulary read_vocabulary(const SafetensorsFile& file, const std::string& name,
                           const nlohmann::json& options) {
  VocabularyOptions o;
  o.type = options.at("integer").get<bool>() ? IdType::integer : IdType::text;
  o.oov = oov_rows(file, options);
  if (options.contains("mask")) o.mask_token = options.at("mask").get<std::string>();
  auto tokens = unpack(file, name);
  auto counts = file.read_all<std::int64_t>(name + ".counts", DType::i64);
  if (counts.size() != tokens.size()) refuse(file, name + " has other counts than tokens");
  return Vocabulary(std::move(tokens), std::move(counts), o);
}

/// The config without what must not be inside: paths, folders, thread counts.
Config model_part(const Config& config) {
  Config out = config;
  out.data.interactions = {"-"};
  out.data.test.clear();
  out.data.items.clear();
  out.data.items_key.clear();
  out.data.users.clear();
  out.data.users_key.clear();
  if (out.data.vocabulary != "train" && out.data.vocabulary != "catalogue")
    out.data.vocabulary = "train";
  for (FeatureConfig& f : out.features) f.vocabulary.clear();
  out.split = {};
  out.output = {};
  out.name.clear();
  // Nor what changes no answer: the same weights make the same file.
  const Config defaults = default_config(config.preset);
  out.train = defaults.train;
  out.train.seed = config.train.seed;
  out.train.precision = config.train.precision;  // of the tables in the file
  out.optimizer = defaults.optimizer;
  return out;
}

std::string feature_key(std::size_t f) {
  return fmt::format("feature.{}", f);
}
std::string table_key(std::size_t t) {
  return fmt::format("table.{}", t);
}

}  // namespace

void write_model_file(const Context& ctx, const std::filesystem::path& path, const Config& config,
                      const ModelData& data, const ItemLists& seen, const TowerNetworks& model,
                      const ItemIndex* index) {
  ModelWriter w;
  nlohmann::json layout;
  layout["users"] = w.vocabulary("users", data.users);
  layout["items"] = w.vocabulary("items", data.items);
  for (std::size_t t = 0; t < data.tables.size(); ++t) {
    const TableData& table = data.tables[t];
    nlohmann::json entry;
    if (table.buckets > 0) {
      entry["buckets"] = table.buckets;
      if (!table.boundaries.empty()) w.floats(table_key(t) + ".boundaries", table.boundaries);
    } else if (table.vocabulary.same_tokens(data.users)) {
      entry = {{"same_as", "users"}, {"oov", table.vocabulary.options().oov}};
    } else if (table.vocabulary.same_tokens(data.items)) {
      entry = {{"same_as", "items"}, {"oov", table.vocabulary.options().oov}};
    } else {
      entry = w.vocabulary(table_key(t), table.vocabulary);
    }
    entry["name"] = table.name;
    entry["dim"] = table.dim;
    layout["tables"].push_back(entry);
  }
  std::size_t context = 0;
  for (std::size_t f = 0; f < data.features.size(); ++f) {
    const FeatureData& feature = data.features[f];
    layout["features"].push_back({{"table", feature.table},
                                  {"context", feature.context},
                                  {"chunk", feature.chunk},
                                  {"width", feature.width},
                                  {"mean", feature.mean},
                                  {"scale", feature.scale}});
    w.values(feature_key(f), feature.form(),
             feature.context ? data.last_context[context++] : feature.values);
  }
  w.longs("seen.offsets", seen.offsets);
  w.ints("seen.items", seen.items);
  model.registry().add_to(ctx, w.writer(), false);
  if (index != nullptr) {
    w.writer().add("item_vectors", DType::f32, {index->size(), index->dim()},
                   [&](std::int64_t first, std::int64_t n, void* out) {
                     index->read_rows(ctx, first, {static_cast<float*>(out), n, index->dim()});
                   });
  }
  w.writer().metadata("format", kFormat);
  w.writer().metadata("belfry.version", fmt::format("{}.0", kMajor));
  w.writer().metadata("belfry.config", to_toml(model_part(config)));
  w.writer().metadata("belfry.layout", layout.dump());
  w.save(path);
}

namespace {

std::int64_t longest_of(const FeatureValues& values) {
  std::int64_t longest = 1;
  for (std::size_t i = 0; i < values.begin.size(); ++i) {
    longest = std::max(longest, values.end[i] - values.begin[i]);
  }
  return longest;
}

/// The values of a feature for n entities or rows, checked against its table.
FeatureValues read_values(const SafetensorsFile& file, const std::string& name,
                          const FeatureData& feature, const ModelData& data, std::int64_t n) {
  FeatureValues v;
  if (feature.form() == FeatureForm::dense) {
    v.numbers = file.read_all<float>(name + ".numbers", DType::f32);
    if (!std::all_of(v.numbers.begin(), v.numbers.end(),
                     [](float x) { return std::isfinite(x); })) {
      refuse(file, name + ".numbers is not finite");
    }
  } else {
    v.rows = file.read_all<std::int32_t>(name + ".rows", DType::i32);
    check_range(file, name + ".rows", v.rows,
                data.tables[static_cast<std::size_t>(feature.table)].rows());
  }
  if (feature.form() == FeatureForm::list) {
    v.begin = file.read_all<std::int64_t>(name + ".begin", DType::i64);
    v.end = file.read_all<std::int64_t>(name + ".end", DType::i64);
    const auto nnz = static_cast<std::int64_t>(v.rows.size());
    bool good = v.begin.size() == v.end.size();
    for (std::size_t i = 0; good && i < v.begin.size(); ++i) {
      good = v.begin[i] >= 0 && v.begin[i] <= v.end[i] && v.end[i] <= nnz;
    }
    if (!good) refuse(file, name + " has lists outside of its rows");
    if (!feature.config.weights.empty()) {
      v.weights = file.read_all<float>(name + ".weights", DType::f32);
      if (v.weights.size() != v.rows.size()) refuse(file, name + ".weights has a wrong length");
    }
  }
  if (v.size(feature.form(), feature.width) != n) refuse(file, name + " has a wrong length");
  return v;
}

void read_features(const SafetensorsFile& file, const nlohmann::json& layout, LoadedModel& m) {
  const nlohmann::json& entries = layout.at("features");
  const std::vector<const FeatureConfig*> configs = lookups(m.config);
  if (entries.size() != configs.size()) refuse(file, "features and layout differ");
  for (std::size_t f = 0; f < entries.size(); ++f) {
    FeatureData feature;
    feature.config = *configs[f];
    feature.steps = steps_of(m.config, feature.config);
    feature.table = entries[f].at("table").get<int>();
    feature.context = entries[f].at("context").get<bool>();
    feature.chunk = entries[f].at("chunk").get<int>();
    feature.width = entries[f].at("width").get<std::int64_t>();
    feature.mean = entries[f].at("mean").get<double>();
    feature.scale = entries[f].at("scale").get<double>();
    if (feature.table < -1 || feature.table >= static_cast<int>(m.data.tables.size()) ||
        (feature.table < 0) == has_table(feature.config.kind)) {
      refuse(file, "a feature names no table");
    }
    if (feature.width < 0 || feature.width > (1 << 20)) refuse(file, "a feature is too wide");
    if (feature.context && feature.config.of != Side::query)
      refuse(file, "an item feature with context");
    const std::int64_t entities =
        feature.config.of == Side::query ? m.data.user_count() : m.data.item_count();
    FeatureValues values = read_values(file, feature_key(f), feature, m.data, entities);
    feature.longest = longest_of(values);
    (feature.context ? m.data.last_context.emplace_back() : feature.values) = std::move(values);
    m.data.features.push_back(std::move(feature));
  }
}

void read_parts(const Context& ctx, const SafetensorsFile& file, LoadedModel& m) {
  m.config = parse_config(file.metadata("belfry.config"), file.path().string(), {});
  m.config.train.early_stop.reset();  // of no meaning here; a default need not fit the tasks
  check_config(m.config);
  const auto layout = nlohmann::json::parse(file.metadata("belfry.layout"));
  m.data.users = read_vocabulary(file, "users", layout.at("users"));
  m.data.items = read_vocabulary(file, "items", layout.at("items"));
  m.data.item_counts = m.data.items.counts();
  const nlohmann::json& tables = layout.at("tables");
  for (std::size_t t = 0; t < tables.size(); ++t) {
    TableData table;
    table.name = tables[t].at("name").get<std::string>();
    table.dim = tables[t].at("dim").get<std::int64_t>();
    if (table.dim < 1 || table.dim > (1 << 20)) refuse(file, "a table has an impossible width");
    const std::string same = tables[t].value("same_as", "");
    if (tables[t].contains("buckets")) {
      table.buckets = tables[t].at("buckets").get<std::int64_t>();
      if (table.buckets < 1 || table.buckets > INT32_MAX)
        refuse(file, "a table has impossible buckets");
      const std::string boundaries = table_key(t) + ".boundaries";
      if (file.has(boundaries)) table.boundaries = file.read_all<float>(boundaries, DType::f32);
    } else if (same == "users" || same == "items") {
      table.vocabulary =
          (same == "users" ? m.data.users : m.data.items).with_oov(oov_rows(file, tables[t]));
    } else {
      table.vocabulary = read_vocabulary(file, table_key(t), tables[t]);
    }
    file.info(table.name + ".embedding",
              m.config.train.precision == Precision::bf16 ? DType::bf16 : DType::f32,
              {table.rows(), table.dim});
    m.data.tables.push_back(std::move(table));
  }
  m.data.labels = label_columns(m.config);
  read_features(file, layout, m);
  m.seen.offsets = file.read_all<std::int64_t>("seen.offsets", DType::i64);
  m.seen.items = file.read_all<std::int32_t>("seen.items", DType::i32);
  if (static_cast<std::int64_t>(m.seen.offsets.size()) != m.data.user_count() + 1) {
    refuse(file, "seen.offsets has a wrong length");
  }
  check_offsets(file, "seen", m.seen.offsets, static_cast<std::int64_t>(m.seen.items.size()));
  check_range(file, "seen.items", m.seen.items, m.data.item_count());
  for (std::size_t u = 1; u < m.seen.offsets.size(); ++u) {
    const auto end = m.seen.items.begin() + m.seen.offsets[u];
    if (std::adjacent_find(m.seen.items.begin() + m.seen.offsets[u - 1], end,
                           std::greater_equal<>()) != end) {
      refuse(file, "seen.items is not ascending");
    }
  }
  std::int64_t steps = 1;
  for (const FeatureData& f : m.data.features) steps = std::max(steps, f.steps);
  const std::int64_t batch = std::min(kQueryBatch, std::max<std::int64_t>(1, kQuerySteps / steps));
  // Each parameter must be in the file before memory is taken for it.
  const auto expect = [&file](const std::string& name, std::int64_t rows, std::int64_t cols,
                              bool half) {
    file.info(name, half ? DType::bf16 : DType::f32, {rows, cols});
  };
  m.model = std::make_unique<TowerNetworks>(ctx, m.config, m.data, batch, batch, false, expect);
  m.model->commit(ctx);
  m.model->registry().read_from(ctx, file, false);
  const std::int64_t n = m.data.item_count(), d = m.model->width();
  if (d == 0) return;  // it ranks only
  const TensorInfo& vectors = file.info("item_vectors", DType::f32, {n, d});
  m.index = std::make_unique<ItemIndex>(ctx, n, d);
  const std::int64_t tile = std::max<std::int64_t>(1, std::min<std::int64_t>(n, 4096));
  Buffer<float> chunk(Backend::cpu, tile * d);
  StreamedIn<float> upload;
  for (std::int64_t first = 0; first < n; first += tile) {
    const std::int64_t rows = std::min(tile, n - first);
    file.read(vectors, first * d, rows * d, chunk.data());
    const float* uploaded = upload.put(ctx, {chunk.data(), static_cast<std::size_t>(rows * d)});
    m.index->add(ctx, first, {uploaded, rows, d});
  }
}

}  // namespace

std::unique_ptr<LoadedModel> load_model_file(const Context& ctx,
                                             const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  if (file.metadata("format") != kFormat) refuse(file, "not a model of belfry");
  const std::string version = file.metadata("belfry.version");
  if (version.rfind(fmt::format("{}.", kMajor), 0) != 0) {
    refuse(file,
           fmt::format("model format {} needs another version of belfry (this one reads {}.x)",
                       version, kMajor));
  }
  auto m = std::make_unique<LoadedModel>();
  // Whatever is wrong inside a file that passed its checksum is still the file's fault.
  try {
    read_parts(ctx, file, *m);
  } catch (const nlohmann::json::exception& e) {
    refuse(file, fmt::format("its layout cannot be read ({})", e.what()));
  } catch (const ContractError& e) {
    refuse(file, fmt::format("its parts do not fit together ({})", e.what()));
  } catch (const Error& e) {
    if (e.code() == ExitCode::bad_model || e.code() == ExitCode::io) throw;
    refuse(file, fmt::format("its content cannot be used ({})", e.what()));
  }
  return m;
}

void write_test_file(const std::filesystem::path& path, const ModelData& data) {
  ModelWriter w;
  w.ints("user", data.test.user);
  w.ints("item", data.test.item);
  std::size_t c = 0;
  for (const FeatureData& f : data.features) {
    if (!f.context) continue;
    w.values(fmt::format("context.{}", c), f.form(), data.test.context[c]);
    ++c;
  }
  for (std::size_t t = 0; t < data.test.labels.size(); ++t) {
    w.floats(fmt::format("label.{}", t), data.test.labels[t]);
  }
  w.writer().metadata("format", "belfry-test");
  w.save(path);
}

Interactions load_test_part(const std::filesystem::path& path, const ModelData& model) {
  const SafetensorsFile file(path);
  Interactions out;
  out.user = file.read_all<std::int32_t>("user", DType::i32);
  out.item = file.read_all<std::int32_t>("item", DType::i32);
  if (out.user.size() != out.item.size()) refuse(file, "user and item differ in length");
  check_range(file, "user", out.user, INT32_MAX);
  check_range(file, "item", out.item, INT32_MAX);
  std::size_t c = 0;
  for (const FeatureData& f : model.features) {
    if (!f.context) continue;
    out.context.push_back(read_values(file, fmt::format("context.{}", c++), f, model, out.size()));
  }
  for (std::size_t t = 0; t < model.labels.size(); ++t) {
    const std::string name = fmt::format("label.{}", t);
    out.labels.push_back(file.read_all<float>(name, DType::f32));
    if (out.labels.back().size() != out.user.size()) refuse(file, name + " has a wrong length");
  }
  return out;
}

}  // namespace belfry
