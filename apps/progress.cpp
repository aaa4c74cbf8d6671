// SPDX-License-Identifier: Apache-2.0
#include "apps/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace belfry::app {

namespace {

double seconds_since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

std::string duration(double seconds) {
  const auto s = static_cast<std::int64_t>(std::ceil(seconds));
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

std::string megabytes(std::int64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

/// 1234567 -> "1,234,567".
std::string grouped(std::int64_t n) {
  std::string digits = std::to_string(n);
  for (auto i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3) {
    digits.insert(static_cast<std::size_t>(i), ",");
  }
  return digits;
}

}  // namespace

ProgressMode progress_mode(const CommonOptions& options) {
  if (options.progress == "bar") return ProgressMode::bar;
  if (options.progress == "plain") return ProgressMode::plain;
  if (options.progress == "json") return ProgressMode::json;
  if (options.progress == "none" || options.quiet) return ProgressMode::none;
  const char* term = std::getenv("TERM");
  const bool dumb = term == nullptr || std::string(term) == "dumb" || std::getenv("CI") != nullptr;
  return isatty(STDERR_FILENO) == 1 && !dumb ? ProgressMode::bar : ProgressMode::plain;
}

ProgressLine::ProgressLine(const CommonOptions& options, std::string what, std::int64_t total)
    : mode_(progress_mode(options)),
      what_(std::move(what)),
      total_(total),
      start_(std::chrono::steady_clock::now()),
      shown_(start_) {}

ProgressLine::~ProgressLine() {
  clear();
}

void ProgressLine::clear() {
  if (on_screen_) to_stderr("\r\x1b[K");
  on_screen_ = false;
}

void ProgressLine::update(std::int64_t done, const std::string& extra) {
  if (mode_ == ProgressMode::none) return;
  if (seconds_since(shown_) < (mode_ == ProgressMode::bar ? 0.1 : 10.0)) return;
  shown_ = std::chrono::steady_clock::now();
  const double elapsed = std::max(1e-9, seconds_since(start_));
  const double rate = static_cast<double>(done) / elapsed;
  const double left = rate > 0 ? static_cast<double>(total_ - done) / rate : 0;
  const double share = total_ > 0 ? static_cast<double>(done) / static_cast<double>(total_) : 1;
  if (mode_ == ProgressMode::json) {
    to_stderr(fmt::format("{}\n", nlohmann::ordered_json{{"event", "progress"},
                                                         {"what", what_},
                                                         {"done", done},
                                                         {"total", total_},
                                                         {"per_s", rate},
                                                         {"eta_s", left}}
                                      .dump()));
    return;
  }
  const std::string text =
      fmt::format("{}  {:3.0f}%  {}/{}{}  {}/s  ETA {}", what_, 100 * share, grouped(done),
                  grouped(total_), extra, grouped(static_cast<std::int64_t>(rate)), duration(left));
  if (mode_ == ProgressMode::plain) {
    to_stderr(fmt::format("{}\n", text));
    return;
  }
  constexpr int kWidth = 18;
  const int full = static_cast<int>(share * kWidth);
  to_stderr(fmt::format("\r[{}{}] {}\x1b[K", std::string(static_cast<std::size_t>(full), '#'),
                        std::string(static_cast<std::size_t>(kWidth - full), '.'), text));
  std::fflush(stderr);
  on_screen_ = true;
}

void TrainProgress::data(const Config& config, const ModelData& data) {
  epochs_ = config.train.epochs;
  const DataReport& r = data.report;
  inform(options_,
         fmt::format("data    {}   {} rows   {} users   {} items   {}   {:.1f} s",
                     config.data.interactions.front(), grouped(r.rows), grouped(data.user_count()),
                     grouped(data.item_count()), r.schema, r.seconds));
  const bool joined = !config.data.items_key.empty() && config.data.items_key != config.data.item;
  std::string roles = fmt::format("        user = {}   item = {}{}", r.user, r.item,
                                  joined ? " (by " + config.data.items_key + ")" : "");
  if (!r.weight.empty()) {
    roles += r.weight_guessed ? fmt::format("   rating = {} (checked, not used)", r.weight)
                              : "   weight = " + r.weight;
  }
  if (!r.time.empty()) roles += "   time = " + r.time;
  if (r.user_guessed || r.item_guessed)
    roles += "   (guessed; data.user=, data.item=, data.time= say otherwise)";
  inform(options_, roles);
  if (r.filtered > 0)
    inform(options_, fmt::format("        {} rows left out by data.where", grouped(r.filtered)));
  if (r.duplicates_dropped > 0)
    inform(options_,
           fmt::format("        {} duplicate rows dropped", grouped(r.duplicates_dropped)));
  inform(options_,
         fmt::format("split   train {}   validation {}   test {}", grouped(data.train.size()),
                     grouped(data.validation.size()), grouped(data.test.size())));
}

void TrainProgress::plan(std::int64_t parameter_bytes, std::int64_t workspace_bytes) {
  inform(options_, fmt::format("memory  tables and optimizer {}   workspace {}",
                               megabytes(parameter_bytes), megabytes(workspace_bytes)));
}

void TrainProgress::step(const StepReport& r) {
  if (!line_ || r.step == 1) {
    line_ = std::make_unique<ProgressLine>(options_, fmt::format("epoch {}/{}", r.epoch, r.epochs),
                                           r.epoch_examples);
  }
  line_->update(r.examples, fmt::format(" examples  loss {:.4f}", r.loss_mean));
}

void TrainProgress::epoch(const EpochReport& r) {
  if (line_) line_->clear();
  line_.reset();
  if (options_.json) {
    result(to_json(r));
    flush_output();
  }
  const ProgressMode mode = progress_mode(options_);
  if (mode == ProgressMode::json) to_stderr(fmt::format("{}\n", to_json(r)));
  if (mode != ProgressMode::plain && mode != ProgressMode::bar) return;
  std::string text = fmt::format("epoch {:>3}/{}  loss {:.4f}  {} examples/s  {:.1f} s", r.epoch,
                                 epochs_, r.loss_mean,
                                 grouped(static_cast<std::int64_t>(static_cast<double>(r.examples) /
                                                                   std::max(1e-9, r.seconds))),
                                 r.seconds);
  if (r.validation) text += fmt::format("  validation {:.4f}{}", *r.validation, r.best ? " *" : "");
  to_stderr(fmt::format("{}\n", text));
}

void TrainProgress::evaluation(const Evaluation& e) {
  if (options_.json) {
    result(to_json(e));
  } else {
    result(metrics_table(e));
  }
}

void TrainProgress::note(const std::string& text) {
  inform(options_, text);
}

}  // namespace belfry::app
