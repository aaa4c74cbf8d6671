// SPDX-License-Identifier: Apache-2.0
// belfry inspect: what a run, a safetensors file or a data file holds.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/common.hpp"
#include "engine/dataset.hpp"
#include "engine/run.hpp"
#include "engine/safetensors.hpp"

namespace belfry::app {

namespace {

struct Options {
  CommonOptions common;
  std::string path;
};

/// environment: the run's env.json, shown to people once the file has passed its checks.
int inspect_tensors(const Options& o, const std::string& path,
                    const std::filesystem::path& environment = {}) {
  // A file of belfry carries a checksum; others are shown without one.
  SafetensorsFile file(path, false);
  const bool checked = file.metadata().contains("belfry.xxh3_128");
  if (checked) SafetensorsFile verified(path, true);
  if (o.common.json) {
    nlohmann::ordered_json out{
        {"event", "inspect"}, {"file", path}, {"checksum", checked ? "good" : "none"}};
    out["metadata"] = file.metadata();
    for (const TensorInfo& t : file.tensors()) {
      out["tensors"].push_back({{"name", t.name}, {"dtype", name_of(t.dtype)}, {"shape", t.shape}});
    }
    result(out.dump());
    return 0;
  }
  if (std::filesystem::exists(environment)) result(read_file(environment));
  result(fmt::format("{}   {} tensors   checksum {}", path, file.tensors().size(),
                     checked ? "good" : "none"));
  for (const TensorInfo& t : file.tensors()) {
    result(fmt::format("  {:<40} {:<5} [{}]", t.name, name_of(t.dtype), fmt::join(t.shape, ", ")));
  }
  for (const auto& [key, value] : file.metadata()) result(fmt::format("{} = {}", key, value));
  return 0;
}

int inspect_data(const Options& o) {
  const Schema schema = sniff(o.path);
  const Roles roles = guess_roles(schema);
  const char* names[] = {"text", "integer", "real"};
  if (o.common.json) {
    nlohmann::ordered_json out{{"event", "inspect"},
                               {"file", o.path},
                               {"format", schema.format},
                               {"description", schema.description()}};
    for (std::size_t c = 0; c < schema.columns.size(); ++c) {
      out["columns"].push_back(
          {{"name", schema.columns[c]}, {"type", names[static_cast<int>(schema.types[c])]}});
    }
    out["guess"] = {
        {"user", roles.user}, {"item", roles.item}, {"weight", roles.weight}, {"time", roles.time}};
    result(out.dump());
    return 0;
  }
  result(fmt::format("{}   {}", o.path, schema.description()));
  for (std::size_t c = 0; c < schema.columns.size(); ++c) {
    const std::string& name = schema.columns[c];
    std::string role;
    if (name == roles.user) role = "user";
    if (name == roles.item) role = "item";
    if (name == roles.weight) role = "rating";
    if (name == roles.time) role = "time";
    result(fmt::format("  {:<24} {:<8} {}", name, names[static_cast<int>(schema.types[c])], role));
  }
  return 0;
}

int inspect(const Options& o) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::is_directory(o.path, error)) {
    return inspect_tensors(o, model_path(o.path), RunFolder{o.path}.environment());
  }
  if (fs::path(o.path).extension() == ".safetensors") return inspect_tensors(o, o.path);
  if (fs::path(o.path).extension() == ".toml") {
    throw Error(ExitCode::usage, o.path, "is a model file, not data",
                "belfry validate " + o.path + " looks at it");
  }
  return inspect_data(o);
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  CLI::App* verb =
      app.add_subcommand("inspect", "what a run, a safetensors file or a data file holds");
  auto o = std::make_shared<Options>();
  verb->add_option("path", o->path, "RUN, FILE.safetensors or DATA")->required();
  add_common_options(*verb, o->common);
  verb->footer("Example: belfry inspect runs/ratings\n         belfry inspect ratings.csv");
  verb->callback([o, &action] { action = [o] { return inspect(*o); }; });
}

}  // namespace belfry::app
