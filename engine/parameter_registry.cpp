// SPDX-License-Identifier: Apache-2.0
#include "engine/parameter_registry.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <span>
#include <vector>

#include "engine/error.hpp"
#include "engine/nearest.hpp"
#include "kernels/core/device.hpp"
#include "kernels/core/parallel.hpp"
#include "kernels/core/philox.hpp"
#include "kernels/core/transfer.hpp"

namespace belfry {

namespace {

/// Two independent standard normals from two 32-bit words (Box and Muller 1958), in float64.
double normal_of(std::uint32_t a, std::uint32_t b) {
  const double u = (static_cast<double>(a) + 1.0) * 0x1p-32;  // (0, 1]
  const double v = static_cast<double>(b) * 0x1p-32;
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

/// Standard deviation of a standard normal that is cut at 2.
constexpr double kCutDeviation = .87962566103423978;

/// Keras's VarianceScaling: of an element of a kernel under the initialisers that know its fans.
double variance_of(InitKind kind, std::int64_t rows, std::int64_t cols) {
  const bool he = kind == InitKind::he_uniform || kind == InitKind::he_normal;
  return 2.0 / static_cast<double>(he ? rows : rows + cols);
}

/// Element `index` of a parameter under an initialiser.
float initial_value(const InitConfig& init, std::int64_t rows, std::int64_t cols,
                    std::uint64_t seed, std::uint64_t key, std::int64_t index) {
  const auto words = [&](std::uint64_t attempt) {
    return random_words(seed, RandomStream::initialise, key + attempt,
                        static_cast<std::uint64_t>(index));
  };
  const double variance = variance_of(init.kind, rows, cols);
  switch (init.kind) {
    case InitKind::zeros:
      return 0.0f;
    case InitKind::ones:
      return 1.0f;
    case InitKind::uniform: {
      const double u = static_cast<double>(words(0).v[0]) * 0x1p-32;
      return static_cast<float>(init.low + (init.high - init.low) * u);
    }
    case InitKind::constant:
      return static_cast<float>(init.value);
    case InitKind::glorot_uniform:
    case InitKind::he_uniform: {
      const double limit = std::sqrt(3.0 * variance);
      const double u = static_cast<double>(words(0).v[0]) * 0x1p-32;
      return static_cast<float>(limit * (2.0 * u - 1.0));
    }
    case InitKind::normal: {
      const Philox4 w = words(0);
      return static_cast<float>(init.mean + init.stddev * normal_of(w.v[0], w.v[1]));
    }
    case InitKind::glorot_normal:
    case InitKind::he_normal:
    case InitKind::truncated_normal: {  // redrawn beyond two standard deviations
      const bool given = init.kind == InitKind::truncated_normal;
      const double mean = given ? init.mean : 0;
      const double stddev = given ? init.stddev : std::sqrt(variance) / kCutDeviation;
      for (std::uint64_t attempt = 0;; ++attempt) {
        const Philox4 w = words(attempt);
        for (const double z : {normal_of(w.v[0], w.v[1]), normal_of(w.v[2], w.v[3])}) {
          if (std::abs(z) <= 2.0) return static_cast<float>(mean + stddev * z);
        }
      }
    }
    case InitKind::orthogonal:
      break;
  }
  throw ContractError("ParameterRegistry: an initialiser of whole matrices");
}

using Vector = std::span<double>;

/// Takes from `own` what lies along N vectors of unit length at right angles. Each sum has an order of its own:
/// eight lanes over the elements, then the lanes.
template <std::size_t N>
void take_out(const std::array<const double*, N>& others, Vector own) {
  constexpr std::size_t kLanes = 8;  // one sum alone waits for each of its additions
  std::array<double, N> along;
  for (std::size_t v = 0; v < N; ++v) {
    const double* const q = others[v];
    double sums[kLanes] = {};
    std::size_t i = 0;
    for (; i + kLanes <= own.size(); i += kLanes) {
      for (std::size_t k = 0; k < kLanes; ++k) sums[k] += own[i + k] * q[i + k];
    }
    for (; i < own.size(); ++i) sums[i % kLanes] += own[i] * q[i];
    along[v] = std::accumulate(sums, sums + kLanes, 0.0);
  }
  for (std::size_t i = 0; i < own.size(); ++i) {
    double x = own[i];
    for (std::size_t v = 0; v < N; ++v) x -= along[v] * others[v][i];
    own[i] = x;
  }
}

/// Makes n vectors of one length, one after the other in `q`, orthonormal in place. Gram and Schmidt, modified
/// (Bjorck 1967: right angles to float64's rounding times the condition of q, some 1e4 for a square of normals,
/// which float32 does not see): groups of vectors, each of which is then taken out of all that follow. A
/// vector's arithmetic depends on no thread. 2 n^2 length operations.
void orthonormalise(const Context& ctx, std::vector<double>& q, std::int64_t n,
                    std::int64_t length) {
  constexpr std::int64_t kGroup = 16;  // of a group's vectors a cache holds all
  constexpr std::int64_t kStep = 8;    // vectors taken out at once
  const auto vector = [&](std::int64_t v) {
    return Vector(q.data() + v * length, static_cast<std::size_t>(length));
  };
  for (std::int64_t first = 0; first < n; first += kGroup) {
    const std::int64_t end = std::min(first + kGroup, n);
    for (std::int64_t v = first; v < end; ++v) {
      for (std::int64_t b = first; b < v; ++b) take_out<1>({vector(b).data()}, vector(v));
      double square = 0;
      for (const double x : vector(v)) square += x * x;
      const double norm = std::sqrt(square);
      for (double& x : vector(v)) x /= norm;
    }
    parallel_for(ctx, n - end, [&](std::int64_t tile, int) {
      for (std::int64_t b = first; b < end;
           b += kStep) {  // whole groups: the last has none behind it
        std::array<const double*, kStep> others;
        for (std::int64_t k = 0; k < kStep; ++k) {
          others[static_cast<std::size_t>(k)] = vector(b + k).data();
        }
        take_out(others, vector(end + tile));
      }
    });
  }
}

/// Rows, or columns where they are fewer, of unit length at right angles: Q of the QR decomposition of a matrix
/// of standard normals, R's diagonal positive, as Keras's Orthogonal.
std::vector<float> orthogonal_values(const Context& ctx, std::int64_t rows, std::int64_t cols,
                                     std::uint64_t seed, std::uint64_t key) {
  const std::int64_t n = std::min(rows, cols), length = std::max(rows, cols);
  std::vector<double> q(static_cast<std::size_t>(n * length));  // one vector after the other
  parallel_for(ctx, n, [&](std::int64_t v, int) {
    for (std::int64_t i = v * length; i < (v + 1) * length; ++i) {
      const Philox4 w =
          random_words(seed, RandomStream::initialise, key, static_cast<std::uint64_t>(i));
      q[static_cast<std::size_t>(i)] = normal_of(w.v[0], w.v[1]);
    }
  });
  orthonormalise(ctx, q, n, length);
  std::vector<float> out(q.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const std::int64_t at = rows <= cols ? r * length + c : c * length + r;
      out[static_cast<std::size_t>(r * cols + c)] =
          static_cast<float>(q[static_cast<std::size_t>(at)]);
    }
  }
  return out;
}

std::string slot_name(const Parameter& p, std::size_t slot) {
  return fmt::format("optimizer.{}.{}", slot, p.name);
}

std::int64_t width_of_slot(const Parameter& p, std::size_t slot) {
  return p.rows == 0 ? 0 : p.slots[slot].size() / p.rows;
}

/// Floats that pass between a table on the device and the host at a time.
constexpr std::int64_t kPiece = std::int64_t{1} << 22;

/// Lets write(first, n, place) make the values of `to` piece by piece, in host memory.
template <class T, class F>
void write_values(const Context& ctx, Buffer<T>& to, F&& write) {
  const std::int64_t n = to.size();
  if (ctx.backend() == Backend::cpu) return write(std::int64_t{0}, n, to.data());
  std::vector<T> piece(static_cast<std::size_t>(std::min(n, kPiece)));
  for (std::int64_t first = 0; first < n; first += kPiece) {
    const std::int64_t m = std::min(kPiece, n - first);
    write(first, m, piece.data());
    upload(ctx, piece.data(), to.data() + first, m);
  }
}

template <class T>
void add_values(const Context& ctx, SafetensorsWriter& writer, const std::string& name,
                std::int64_t rows, std::int64_t cols, const Buffer<T>& values) {
  constexpr DType kType = std::is_same_v<T, bf16> ? DType::bf16 : DType::f32;
  if (ctx.backend() == Backend::cpu) return writer.add(name, kType, {rows, cols}, values.data());
  writer.add(name, kType, {rows, cols},
             [&ctx, &values, cols](std::int64_t first, std::int64_t n, void* out) {
               download(ctx, values.data() + first * cols, static_cast<T*>(out), n * cols);
             });
}

/// All of `out`, which no queued work uses yet.
void fill_new(Buffer<float>& out, float value) {
  if (out.backend() == Backend::cpu) return std::fill(out.data(), out.data() + out.size(), value);
  const std::vector<float> piece(static_cast<std::size_t>(std::min(out.size(), kPiece)), value);
  for (std::int64_t first = 0; first < out.size(); first += kPiece) {
    const std::int64_t n = std::min(kPiece, out.size() - first);
    simt::to_device(out.data() + first, piece.data(), n * std::int64_t{sizeof(float)});
  }
}

}  // namespace

bool glob_match(const std::string& pattern, const std::string& text) {
  std::size_t p = 0, t = 0, star = std::string::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = t;
    } else if (star != std::string::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

int ParameterRegistry::add(const std::string& name, std::int64_t rows, std::int64_t cols,
                           bool table, const InitConfig& init, bool half) {
  require(find(name) < 0, "ParameterRegistry: a parameter of this name exists already");
  if (expect_) expect_(name, rows, cols, half);
  Parameter& p = parameters_.emplace_back();
  p.name = name;
  p.rows = rows;
  p.cols = cols;
  p.table = table;
  p.init = init;
  p.half = half;
  const std::int64_t n = checked_product(rows, cols, name.c_str());
  if (measures_) return size() - 1;
  if (half) {
    p.value16 = Buffer<bf16>(backend_, n);
  } else {
    p.value = Buffer<float>(backend_, n);
  }
  return size() - 1;
}

int ParameterRegistry::find(const std::string& name) const {
  for (int i = 0; i < size(); ++i) {
    if (at(i).name == name) return i;
  }
  return -1;
}

/// One zero-filled block of which `member` of each dense parameter becomes a part; the caller keeps it.
Buffer<float> ParameterRegistry::dense_block(Buffer<float> Parameter::*member) {
  constexpr std::int64_t kAlignment = 64;  // floats
  const auto room = [](const Parameter& p) {
    return (p.rows * p.cols + kAlignment - 1) / kAlignment * kAlignment;
  };
  std::int64_t total = 0;
  for (const Parameter& p : parameters_) total += p.table ? 0 : room(p);
  Buffer<float> block(backend_, total);
  std::int64_t first = 0;
  for (Parameter& p : parameters_) {
    if (p.table) continue;
    p.*member = Buffer<float>::part_of(block, first, p.rows * p.cols);
    first += room(p);
  }
  return block;
}

void ParameterRegistry::join_dense() {
  dense_values_ = dense_block(&Parameter::value);
}

void ParameterRegistry::initialise(const Context& ctx, std::uint64_t seed) {
  for (Parameter& p : parameters_) {
    // The key leaves room for the redraws of truncated normals.
    const std::uint64_t key = (XXH3_64bits(p.name.data(), p.name.size()) >> 24) << 8;
    if (p.init.kind == InitKind::orthogonal) {
      const std::vector<float> values = orthogonal_values(ctx, p.rows, p.cols, seed, key);
      write_values(ctx, p.value, [&](std::int64_t first, std::int64_t n, float* out) {
        std::copy_n(values.begin() + first, n, out);
      });
      continue;
    }
    constexpr std::int64_t kTile = 1 << 16;
    const auto draw = [&](std::int64_t first, std::int64_t n, auto* out, auto rounded) {
      parallel_for(ctx, (n + kTile - 1) / kTile, [&](std::int64_t tile, int) {
        for (std::int64_t i = tile * kTile; i < std::min(n, (tile + 1) * kTile); ++i) {
          out[i] = rounded(initial_value(p.init, p.rows, p.cols, seed, key, first + i));
        }
      });
    };
    write_values(ctx, p.value, [&](std::int64_t first, std::int64_t n, float* out) {
      draw(first, n, out, [](float x) { return x; });
    });
    write_values(ctx, p.value16, [&](std::int64_t first, std::int64_t n, bf16* out) {
      draw(first, n, out, [](float x) { return round_to_nearest(x); });
    });
  }
}

/// A table in bf16 is stepped by lists of rows alone: the list of all.
void ParameterRegistry::list_every_row(Parameter& p) {
  std::vector<std::int32_t> rows(static_cast<std::size_t>(p.rows));
  std::iota(rows.begin(), rows.end(), 0);
  p.every_row = Buffer<std::int32_t>(backend_, p.rows);
  p.row_count = Buffer<std::int64_t>(backend_, 1);
  if (backend_ == Backend::cpu) {
    std::copy(rows.begin(), rows.end(), p.every_row.data());
    *p.row_count.data() = p.rows;
    return;
  }
  simt::to_device(p.every_row.data(), rows.data(), p.rows * std::int64_t{sizeof(std::int32_t)});
  simt::to_device(p.row_count.data(), &p.rows, sizeof p.rows);
}

const OptimizerGroupConfig& ParameterRegistry::group_of(const OptimizerConfig& config,
                                                        const Parameter& p) {
  for (const OptimizerGroupConfig& group : config.groups) {
    if (glob_match(group.match, p.name)) return group;
  }
  return config.main;
}

/// A group that no parameter fits is a typing error: its parameters would train by another rule.
void ParameterRegistry::check_groups(const OptimizerConfig& config) const {
  std::vector<std::string> names;
  for (const Parameter& p : parameters_) names.push_back(p.name);
  for (std::size_t g = 0; g < config.groups.size(); ++g) {
    const OptimizerGroupConfig& group = config.groups[g];
    if (std::any_of(names.begin(), names.end(),
                    [&](const std::string& name) { return glob_match(group.match, name); })) {
      continue;
    }
    throw Error(ExitCode::usage,
                group.place.empty() ? fmt::format("optimizer.group.{}.match", g)
                                    : static_cast<const std::string&>(group.place),
                fmt::format("no parameter's name fits match = \"{}\"", group.match),
                nearest_hint(group.match, names));
  }
}

std::int64_t ParameterRegistry::training_bytes(const OptimizerConfig& config) const {
  std::int64_t bytes = 0;
  for (const Parameter& p : parameters_) {
    const OptimizerOptions& options = group_of(config, p).options;
    const std::int64_t slots = slot_count(options) * slot_width(options, p.cols);
    const std::int64_t value = p.cols * (p.half ? 2 : 4);
    const std::int64_t gradient = p.dense_gradient() ? p.cols * 4 : 0;
    bytes += checked_product(p.rows, value + gradient + slots * 4, p.name.c_str());
  }
  return bytes;
}

void ParameterRegistry::prepare_training(const OptimizerConfig& config) {
  check_groups(config);
  std::uint32_t table_number = 0;  // keeps the tables' roundings apart
  for (Parameter& p : parameters_) {
    const OptimizerGroupConfig* group = &group_of(config, p);
    const int number =
        group == &config.main ? 0 : static_cast<int>(group - config.groups.data()) + 1;
    p.optimizer = group->options;
    p.optimizer.group = number;
    p.optimizer.table = table_number++;
    p.initial_accumulator =
        has_accumulator(p.optimizer) ? static_cast<float>(group->initial_accumulator_value) : 0.0f;
    p.slots.clear();
    for (int s = 0; s < slot_count(p.optimizer); ++s) {
      Buffer<float> slot(backend_,
                         checked_product(p.rows, slot_width(p.optimizer, p.cols), "slots"));
      if (s == 0 && p.initial_accumulator != 0) fill_new(slot, p.initial_accumulator);
      p.slots.push_back(std::move(slot));
    }
  }
  dense_gradients_ = dense_block(&Parameter::gradient);
  for (Parameter& p : parameters_) {
    if (!p.table || !p.dense_gradient()) continue;
    p.gradient = Buffer<float>(backend_, p.rows * p.cols);
    if (p.half) list_every_row(p);
  }
}

void ParameterRegistry::release_training() {
  for (Parameter& p : parameters_) {
    p.slots.clear();
    p.gradient = Buffer<float>();
    p.every_row = Buffer<std::int32_t>();
    p.row_count = Buffer<std::int64_t>();
  }
  dense_gradients_ = Buffer<float>();
}

void ParameterRegistry::add_to(const Context& ctx, SafetensorsWriter& writer,
                               bool with_slots) const {
  for (const Parameter& p : parameters_) {
    if (p.half) {
      add_values(ctx, writer, p.name, p.rows, p.cols, p.value16);
    } else {
      add_values(ctx, writer, p.name, p.rows, p.cols, p.value);
    }
    for (std::size_t s = 0; with_slots && s < p.slots.size(); ++s) {
      add_values(ctx, writer, slot_name(p, s), p.rows, width_of_slot(p, s), p.slots[s]);
    }
  }
}

void ParameterRegistry::read_from(const Context& ctx, const SafetensorsFile& file,
                                  bool with_slots) {
  const auto read = [&](const TensorInfo& info, auto& to) {
    write_values(ctx, to, [&](std::int64_t first, std::int64_t n, void* out) {
      file.read(info, first, n, out);
    });
  };
  for (Parameter& p : parameters_) {
    if (p.half) {
      read(file.info(p.name, DType::bf16, {p.rows, p.cols}), p.value16);
    } else {
      read(file.info(p.name, DType::f32, {p.rows, p.cols}), p.value);
    }
    for (std::size_t s = 0; with_slots && s < p.slots.size(); ++s) {
      read(file.info(slot_name(p, s), DType::f32, {p.rows, width_of_slot(p, s)}), p.slots[s]);
    }
  }
}

std::int64_t ParameterRegistry::bytes() const {
  std::int64_t floats = 0, halves = 0;
  for (const Parameter& p : parameters_) {
    halves += p.value16.size();
    floats += p.value.size() + p.gradient.size() + p.every_row.size();
    for (const auto& s : p.slots) floats += s.size();
  }
  return floats * std::int64_t{sizeof(float)} + halves * std::int64_t{sizeof(bf16)};
}

}  // namespace belfry
