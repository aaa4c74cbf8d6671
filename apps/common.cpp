// SPDX-License-Identifier: Apache-2.0
#include "apps/common.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>

#include "engine/device_choice.hpp"
#include "engine/run.hpp"

namespace belfry::app {

void add_common_options(CLI::App& verb, CommonOptions& o) {
  verb.add_option("--device", o.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  verb.add_option("--threads", o.threads, "CPU threads (default: $BELFRY_THREADS, else all)");
  verb.add_option("--seed", o.seed, "seed of all draws");
  verb.add_option("--progress", o.progress, "auto, bar, plain, json or none; on stderr")
      ->capture_default_str();
  verb.add_flag("--json", o.json, "one JSON object a line on stdout, nothing else there");
  verb.add_flag("-q,--quiet", o.quiet, "errors and results only");
  verb.add_flag("-v,--verbose", o.verbose, "say more");
}

std::int64_t parse_count(const std::string& text, const char* option, std::int64_t most) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1 || value > most) {
    throw Error(ExitCode::usage, option,
                fmt::format("\"{}\" is not a whole number from 1 to {}", text, most));
  }
  return value;
}

std::int64_t parse_k(const std::string& text) {
  return parse_count(text, "-k", INT32_MAX);
}

std::uint64_t parse_seed(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > INT64_MAX) {
    throw Error(ExitCode::usage, "--seed", fmt::format("\"{}\" is not a whole number >= 0", text));
  }
  return value;
}

std::vector<std::string> with_seed(const CommonOptions& options,
                                   std::vector<std::string> overrides) {
  if (!options.seed.empty()) {
    overrides.insert(overrides.begin(), fmt::format("train.seed={}", parse_seed(options.seed)));
  }
  return overrides;
}

std::unique_ptr<Context> make_context(const CommonOptions& options) {
  static const std::set<std::string> kProgress{"auto", "bar", "plain", "json", "none"};
  if (!kProgress.contains(options.progress)) {
    throw Error(ExitCode::usage, "--progress",
                fmt::format("\"{}\" is none of auto, bar, plain, json, none", options.progress));
  }
  std::string threads = options.threads;
  const char* source = "--threads";
  if (threads.empty()) {
    const char* environment = std::getenv("BELFRY_THREADS");
    if (environment != nullptr) threads = environment;
    source = "BELFRY_THREADS";
  }
  const std::int64_t n = threads.empty() ? 0 : parse_count(threads, source, 4096);
  return std::make_unique<Context>(
      choose_backend(options.device, "--device",
                     [&](const std::string& line) { inform(options, line); }),
      static_cast<int>(n));
}

void to_stderr(const std::string& text) noexcept {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

void inform(const CommonOptions& options, const std::string& line) {
  if (!options.quiet) to_stderr(fmt::format("{}\n", line));
}

void warn(const std::string& line) {
  to_stderr(fmt::format("warning: {}\n", line));
}

namespace {
int output_error = 0;  // errno of the first write to stdout that failed
}

void result(const std::string& line) {
  errno = 0;
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fputc('\n', stdout);
  if (output_error == 0 && std::ferror(stdout) != 0) output_error = errno != 0 ? errno : EIO;
}

void flush_output() {
  errno = 0;
  if (std::fflush(stdout) != 0 && output_error == 0) output_error = errno != 0 ? errno : EIO;
}

void check_output() {
  if (output_error != 0) throw Error(ExitCode::io, "standard output", std::strerror(output_error));
}

void finish_output() {
  flush_output();
  check_output();
}

std::string metrics_table(const Evaluation& e) {
  std::string out =
      fmt::format("{:<50} {:>10} {:>12} {:>10}\n", "metric", "model", "popularity", "random");
  const auto cell = [](const MetricMap& m, const std::string& name) {
    const auto at = m.find(name);
    return at == m.end() ? std::string("-") : fmt::format("{:.4f}", at->second);
  };
  for (const auto& [name, value] : e.metrics) {
    out += fmt::format("{:<50} {:>10.4f} {:>12} {:>10}\n", name, value, cell(e.popularity, name),
                       cell(e.random, name));
  }
  out += fmt::format("users {}   items {}   test rows {}   seen items excluded: {}   {:.2f} s",
                     e.users, e.items, e.test_rows, e.exclude_seen ? "yes" : "no", e.seconds);
  if (e.dropped_pairs > 0) {
    out += fmt::format("\n{} test pairs are masked training pairs too and were dropped",
                       e.dropped_pairs);
  }
  return out;
}

std::stop_token stop_on_signals() {
  static std::stop_source source;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);  // threads started later inherit this
  std::thread([set] {
    int signal = 0;
    sigwait(&set, &signal);
    source.request_stop();
    sigwait(&set, &signal);
    _exit(128 + signal);
  }).detach();
  return source.get_token();
}

std::string model_path(const std::string& run) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(run, error)) {
    const bool interrupted = !run.empty() && fs::exists(RunFolder{run}.partial().root, error);
    throw Error(ExitCode::io, run, "no such run",
                interrupted ? "its training was interrupted: belfry resume " + run : "");
  }
  if (fs::is_regular_file(run, error)) {
    if (fs::path(run).extension() == ".safetensors") return run;
    throw Error(ExitCode::bad_model, run, "is a file, not the folder of a run");
  }
  const fs::path model = RunFolder{run}.model();
  if (!fs::exists(model, error)) {
    throw Error(ExitCode::bad_model, run, "has no model.safetensors",
                "is it a run of `belfry train`?");
  }
  return model.string();
}

}  // namespace belfry::app
