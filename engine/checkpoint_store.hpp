// SPDX-License-Identifier: Apache-2.0
// Checkpoints as folders: FOLDER/step-N.tmp/ is filled, MANIFEST.json (names, sizes and XXH3-128 of the
// files, and a checksum of its own) is written last, the folder is renamed to step-N. What bears that
// name and fits its manifest is a checkpoint; at any moment of a kill the one before is still there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace belfry {

/// A file of a checkpoint as its manifest has it.
struct CheckpointFile {
  std::string name;
  std::uint64_t bytes = 0;
  std::string xxh3_128;
};

class CheckpointWriter {
 public:
  /// Creates FOLDER (with parents) and an empty step-N.tmp in it.
  CheckpointWriter(const std::filesystem::path& folder, std::int64_t step);
  /// Without commit() the temporary folder is removed.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  /// Where to put a file (OutputFile, committed before commit()). A plain name, each once.
  std::filesystem::path add(const std::string& name);
  /// metadata: any JSON object as text, given back by the reader (numbers keep their value). A folder
  /// step-N that is there already is replaced as a whole.
  void commit(const std::string& metadata);

 private:
  std::filesystem::path folder_, staged_;
  std::int64_t step_;
  std::vector<std::string> names_;
  bool committed_ = false;
};

class CheckpointReader {
 public:
  /// Reads and checks the manifest of FOLDER/step-N, and with `verify` size and hash of every file.
  /// Error(bad_model), or Error(io) where something is missing or cannot be read.
  CheckpointReader(const std::filesystem::path& folder, std::int64_t step, bool verify = true);
  std::int64_t step() const { return step_; }
  const std::string& metadata() const { return metadata_; }
  const std::vector<CheckpointFile>& files() const { return files_; }
  /// Path of a file of the manifest; Error(bad_model) for another name.
  std::filesystem::path file(const std::string& name) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  void read_manifest();
  void check_files() const;
  std::filesystem::path path_;
  std::int64_t step_;
  std::string metadata_;
  std::vector<CheckpointFile> files_;
};

/// The newest checkpoint of `folder` that passes every check. Damaged ones are passed over, one line
/// each in `warnings`. nullopt: none (or no folder).
std::optional<CheckpointReader> newest_valid_checkpoint(const std::filesystem::path& folder,
                                                        std::vector<std::string>& warnings);

/// Keeps the newest `keep` valid checkpoints and removes older ones, and the step-N.tmp of an
/// interrupted run. Folders that cannot be read as a checkpoint do not count and are left alone. Not to
/// be called while a CheckpointWriter is open.
void prune_checkpoints(const std::filesystem::path& folder, std::int64_t keep);

}  // namespace belfry
