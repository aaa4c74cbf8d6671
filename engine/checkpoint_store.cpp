// SPDX-License-Identifier: Apache-2.0
#include "engine/checkpoint_store.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <string_view>

#include "engine/checksum.hpp"
#include "engine/error.hpp"
#include "engine/file_io.hpp"
#include "kernels/core/check.hpp"

namespace belfry {
namespace fs = std::filesystem;
namespace {

constexpr const char* kManifest = "MANIFEST.json";
constexpr int kFormat = 1;
constexpr std::uint64_t kMaxManifest = std::uint64_t{1} << 20;
constexpr std::string_view kChecksumPrefix = "\"manifest_xxh3_128\": \"";
constexpr std::string_view kNoDigits = "00000000000000000000000000000000";
constexpr std::string_view kStepPrefix = "step-", kStagedSuffix = ".tmp";

std::string step_name(std::int64_t step) {
  return std::string(kStepPrefix) + std::to_string(step);
}

/// N of "step-N" as step_name() writes it; nullopt for any other name.
std::optional<std::int64_t> parse_step(std::string_view name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  std::int64_t step = -1;
  const auto parsed =
      std::from_chars(name.data() + kStepPrefix.size(), name.data() + name.size(), step);
  if (parsed.ec != std::errc() || step < 0 || step_name(step) != name) return std::nullopt;
  return step;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name != kManifest && name.size() < 200 &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

std::string sealed(std::string text) {
  Xxh3 hash;
  hash.update(text.data(), text.size());
  const std::optional<std::size_t> digits = find_checksum(text, kChecksumPrefix);
  require(digits.has_value(), "CheckpointWriter: the manifest's checksum has one place");
  return text.replace(*digits, Xxh3::kDigits, hash.hex());
}

bool seal_holds(const std::string& text) {
  const std::optional<std::size_t> digits = find_checksum(text, kChecksumPrefix);
  if (!digits) return false;
  std::string blank = text;
  blank.replace(*digits, Xxh3::kDigits, kNoDigits);
  Xxh3 hash;
  hash.update(blank.data(), blank.size());
  return hash.hex() == std::string_view(text).substr(*digits, Xxh3::kDigits);
}

/// Steps of `folder`, newest first, and the names of unfinished ones.
struct Listing {
  std::vector<std::int64_t> steps;
  std::vector<std::string> unfinished;
};

Listing list_steps(const fs::path& folder) {
  Listing listing;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (const auto step = parse_step(name)) {
      listing.steps.push_back(*step);
    } else if (name.ends_with(kStagedSuffix) &&
               parse_step(std::string_view(name).substr(0, name.size() - kStagedSuffix.size()))) {
      listing.unfinished.push_back(name);
    }
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw Error(ExitCode::io, folder.string(), error.message());
  }
  std::sort(listing.steps.rbegin(), listing.steps.rend());
  return listing;
}

bool is_valid(const fs::path& folder, std::int64_t step, bool verify) {
  try {
    const CheckpointReader reader(folder, step, verify);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

CheckpointWriter::CheckpointWriter(const fs::path& folder, std::int64_t step)
    : folder_(folder),
      staged_(folder / (step_name(step) + std::string(kStagedSuffix))),
      step_(step) {
  require(step >= 0, "CheckpointWriter: step >= 0");
  remove_tree(staged_);
  make_directory(staged_);
}

CheckpointWriter::~CheckpointWriter() {
  if (committed_) return;
  try {
    remove_tree(staged_);
  } catch (const Error&) {
    // The folder's name says that it is unfinished; prune_checkpoints() takes it away.
  }
}

fs::path CheckpointWriter::add(const std::string& name) {
  require(is_plain_name(name), "CheckpointWriter: a file has a plain name");
  require(std::find(names_.begin(), names_.end(), name) == names_.end(),
          "CheckpointWriter: no two files have one name");
  names_.push_back(name);
  return staged_ / name;
}

void CheckpointWriter::commit(const std::string& metadata) {
  require(!committed_, "CheckpointWriter: committed once");
  nlohmann::ordered_json manifest;
  manifest["format"] = kFormat;
  manifest["step"] = step_;
  manifest["manifest_xxh3_128"] = kNoDigits;
  manifest["files"] = nlohmann::ordered_json::array();
  for (const std::string& name : names_) {
    const fs::path path = staged_ / name;
    manifest["files"].push_back(
        {{"name", name}, {"bytes", InputFile(path).size()}, {"xxh3_128", xxh3_of_file(path)}});
  }
  manifest["metadata"] = nlohmann::ordered_json::parse(metadata, nullptr, false);
  require(manifest["metadata"].is_object(), "CheckpointWriter: metadata is a JSON object");
  const std::string text = sealed(manifest.dump(1)) + "\n";
  require(text.size() <= kMaxManifest, "CheckpointWriter: the manifest fits into 1 MiB");
  write_file(staged_ / kManifest, text);
  replace_directory(staged_, folder_ / step_name(step_));
  committed_ = true;
}

CheckpointReader::CheckpointReader(const fs::path& folder, std::int64_t step, bool verify)
    : path_(folder / step_name(step)), step_(step) {
  read_manifest();
  if (verify) check_files();
}

void CheckpointReader::read_manifest() {
  const fs::path place = path_ / kManifest;
  std::string text = read_file(place, kMaxManifest);
  if (!text.ends_with('\n')) throw Error(ExitCode::bad_model, place.string(), "damaged");
  text.pop_back();
  if (!seal_holds(text)) {
    throw Error(ExitCode::bad_model, place.string(), "damaged: the checksum does not match");
  }
  try {
    const auto manifest = nlohmann::ordered_json::parse(text);
    if (manifest.at("format") != kFormat) {
      throw Error(ExitCode::bad_model, place.string(),
                  "checkpoint format " + manifest.at("format").dump() + ", this belfry reads " +
                      std::to_string(kFormat));
    }
    if (manifest.at("step") != step_) {
      throw Error(ExitCode::bad_model, place.string(),
                  "a checkpoint of step " + manifest.at("step").dump());
    }
    for (const auto& entry : manifest.at("files")) {
      CheckpointFile file{entry.at("name"), entry.at("bytes"), entry.at("xxh3_128")};
      if (!is_plain_name(file.name)) {
        throw Error(ExitCode::bad_model, place.string(), "a file outside the checkpoint's folder");
      }
      files_.push_back(std::move(file));
    }
    metadata_ = manifest.at("metadata").dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ExitCode::bad_model, place.string(), "not a checkpoint's manifest");
  }
}

void CheckpointReader::check_files() const {
  for (const CheckpointFile& file : files_) {
    const fs::path place = path_ / file.name;
    const std::uint64_t bytes = InputFile(place).size();
    if (bytes != file.bytes) {
      throw Error(ExitCode::bad_model, place.string(),
                  "damaged: " + std::to_string(bytes) + " bytes, the manifest has " +
                      std::to_string(file.bytes));
    }
    if (xxh3_of_file(place) != file.xxh3_128) {
      throw Error(ExitCode::bad_model, place.string(), "damaged: the checksum does not match");
    }
  }
}

fs::path CheckpointReader::file(const std::string& name) const {
  for (const CheckpointFile& file : files_) {
    if (file.name == name) return path_ / name;
  }
  throw Error(ExitCode::bad_model, path_.string(), "the checkpoint has no file '" + name + "'");
}

std::optional<CheckpointReader> newest_valid_checkpoint(const fs::path& folder,
                                                        std::vector<std::string>& warnings) {
  for (const std::int64_t step : list_steps(folder).steps) {
    try {
      return CheckpointReader(folder, step);
    } catch (const Error& error) {
      warnings.push_back(error.what());
    }
  }
  return std::nullopt;
}

void prune_checkpoints(const fs::path& folder, std::int64_t keep) {
  require(keep >= 1, "prune_checkpoints: keep >= 1");
  const Listing listing = list_steps(folder);
  for (const std::string& name : listing.unfinished) remove_tree(folder / name);
  std::int64_t kept = 0;
  for (const std::int64_t step : listing.steps) {
    if (kept < keep) {
      kept += is_valid(folder, step, true) ? 1 : 0;
    } else if (is_valid(folder, step, false)) {
      // Renamed first: a kill between two files must not leave half a checkpoint under a good name.
      const fs::path path = folder / step_name(step);
      const fs::path doomed = path.string() + std::string(kStagedSuffix);
      rename_durably(path, doomed);
      remove_tree(doomed);
    }
  }
}

}  // namespace belfry
