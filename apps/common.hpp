// SPDX-License-Identifier: Apache-2.0
// What the verbs share: common options, output, and how a verb is added to the command line.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/error.hpp"
#include "engine/evaluator.hpp"
#include "kernels/core/context.hpp"
#include "kernels/core/device.hpp"

namespace belfry::app {

struct CommonOptions {
  std::string device = "auto";
  std::string threads;  ///< empty: BELFRY_THREADS, else all
  std::string seed;
  std::string progress = "auto";
  bool json = false, quiet = false, verbose = false;
};

/// Adds --device, --threads, --json and the rest to a verb.
void add_common_options(CLI::App& verb, CommonOptions& options);

/// A queue on the asked-for device with the asked-for threads; Error(no_gpu / usage). "auto" takes a GPU
/// where there is one, and says so.
std::unique_ptr<Context> make_context(const CommonOptions& options);

/// A whole number from 1 to `most` from the command line; Error(usage) naming the option.
std::int64_t parse_count(const std::string& text, const char* option, std::int64_t most);
/// -k: how many items a list has. Rows of a catalogue are 32-bit numbers.
std::int64_t parse_k(const std::string& text);
std::uint64_t parse_seed(const std::string& text);
/// --seed as an override of the model file, in front of the user's own overrides.
std::vector<std::string> with_seed(const CommonOptions& options,
                                   std::vector<std::string> overrides);

/// Text to stderr. That nobody can read it (a closed pipe, a full disk) is no reason to fail: never throws.
void to_stderr(const std::string& text) noexcept;
/// One line of information for people, on stderr; silent with -q.
void inform(const CommonOptions& options, const std::string& line);
/// A warning, on stderr, always.
void warn(const std::string& line);
/// A result, on stdout.
void result(const std::string& line);
/// Flushes stdout, so that a reader of events sees them as they come.
void flush_output();
/// Error(io) when stdout did not take what it was given: a full disk, a closed pipe. For loops that
/// would go on writing for nobody.
void check_output();
/// Flushes and checks.
void finish_output();

/// The table of metrics beside the baselines.
std::string metrics_table(const Evaluation& evaluation);

/// A stop token that the first SIGINT or SIGTERM requests; the second ends the process at once. To be
/// called before any thread is started.
std::stop_token stop_on_signals();

/// Path of RUN/model.safetensors. A path that does not exist: Error(io); a folder that is no run: bad_model.
std::string model_path(const std::string& run);

using Action = std::function<int()>;
/// Each verb adds itself and sets `action` when it is chosen.
void add_train(CLI::App& app, Action& action);
void add_resume(CLI::App& app, Action& action);
void add_validate(CLI::App& app, Action& action);
void add_evaluate(CLI::App& app, Action& action);
void add_recommend(CLI::App& app, Action& action);
void add_similar(CLI::App& app, Action& action);
void add_search(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_doctor(CLI::App& app, Action& action);
void add_demo(CLI::App& app, Action& action);
void add_init(CLI::App& app, Action& action);

}  // namespace belfry::app
