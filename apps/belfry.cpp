// SPDX-License-Identifier: Apache-2.0
// The `belfry` command: verbs, the one catch, exit codes.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <new>

#include "apps/common.hpp"
#include "engine/device_choice.hpp"
#include "engine/nearest.hpp"
#include "engine/run.hpp"
#include "kernels/core/built_ops.hpp"
#include "kernels/core/check.hpp"

namespace {

using belfry::ExitCode;

int fail(ExitCode code, std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');  // an error is one line
  belfry::app::to_stderr(fmt::format("error: {}\n", text));
  return static_cast<int>(code);
}

/// CLI11 knows what is wrong, not what was meant.
std::string usage_text(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  std::string text = error.what();
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  if (argc > 1 && argv[1][0] != '-') {
    std::vector<std::string> verbs;
    bool known = false;
    for (const CLI::App* verb : app.get_subcommands({})) {
      verbs.push_back(verb->get_name());
      known = known || verbs.back() == argv[1];
    }
    if (!known) {
      text = fmt::format("unknown verb \"{}\"", argv[1]);
      const std::string nearest = belfry::nearest(argv[1], verbs);
      return text + (nearest.empty() ? "; see belfry --help"
                                     : fmt::format("; did you mean \"{}\"?", nearest));
    }
    return fmt::format("{}: {}; see belfry {} --help", argv[1], text, argv[1]);
  }
  return text + "; see belfry --help";
}

int run(int argc, char** argv) {
  CLI::App app{"belfry trains two-tower recommenders and answers with recommendations.", "belfry"};
  const belfry::BuildInfo build = belfry::build_info();
  app.set_version_flag("--version",
                       fmt::format("belfry {} ({}, {}, {})", build.version, build.commit,
                                   build.compiler, belfry::kHasCuda::device ? "cpu, cuda" : "cpu"));
  app.require_subcommand(1);
  app.footer(
      "Example: belfry demo\n         belfry train ratings.csv\n         belfry recommend "
      "runs/ratings --user 42 -k 10");
  belfry::app::Action action;
  for (const auto add :
       {belfry::app::add_demo, belfry::app::add_init, belfry::app::add_validate,
        belfry::app::add_train, belfry::app::add_resume, belfry::app::add_evaluate,
        belfry::app::add_recommend, belfry::app::add_similar, belfry::app::add_search,
        belfry::app::add_export, belfry::app::add_inspect, belfry::app::add_doctor}) {
    add(app, action);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    app.exit(success);
    belfry::app::finish_output();
    return 0;
  } catch (const CLI::ParseError& error) {
    return fail(ExitCode::usage, usage_text(app, error, argc, argv));
  }
  const int code = action();
  belfry::app::finish_output();
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of write, told like any other
  try {
    return run(argc, argv);
  } catch (const belfry::Error& error) {
    return fail(error.code(), error.what());
  } catch (const belfry::simt::DeviceFailure& failure) {
    const belfry::Error error = belfry::error_of(failure);
    return fail(error.code(), error.what());
  } catch (const belfry::DeviceError& error) {  // a library or an op that is not there
    return fail(ExitCode::no_gpu, error.what());
  } catch (const std::bad_alloc&) {
    return fail(ExitCode::out_of_memory,
                "out of memory; fewer items, a smaller dim or batch_size need less");
  } catch (const std::length_error& error) {
    return fail(ExitCode::out_of_memory, error.what());
  } catch (const std::exception& error) {
    belfry::app::to_stderr(
        fmt::format("error: internal error: {}; this is a bug in belfry\n", error.what()));
    return 1;
  }
}
