// SPDX-License-Identifier: Apache-2.0
// Training on the device: the CPU's losses and weights within rounding, its own to the bit, whatever order the
// device runs its queues in, wherever the batches come from, and with nothing asked of the host on the way.
#include <gtest/gtest.h>

#include "engine/trainer.hpp"
#include "kernels/core/device.hpp"
#include "tests/simt/device_array.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/small_model.hpp"

namespace belfry::test {
namespace {

const SmallRatings& ratings() {
  static const SmallRatings r(30, 25, 300);
  return r;
}

struct Trained {
  std::vector<float> values;
  std::vector<double> losses;  // mean of each epoch
};

Trained train(const Loaded& l, Backend backend) {
  const TempFolder folder;
  const Context ctx(backend, 1);
  Recorder recorder;
  Trainer trainer(ctx, l.config, l.data, folder.path());
  EXPECT_EQ(trainer.run(recorder, {}), TrainOutcome::finished);
  Trained out{all_values(trainer.model().registry()), {}};
  for (const EpochReport& e : recorder.epochs) out.losses.push_back(e.loss_mean);
  return out;
}

Loaded small(std::vector<std::string> overrides) {
  overrides.insert(overrides.begin(), {"train.batch_size=32", "train.epochs=3"});
  return load(ratings().config(overrides));
}

/// Every way in which a batch or an update differs.
const std::vector<std::vector<std::string>> kVariants{
    {"optimizer.kind=adagrad"},
    {"optimizer.kind=adam", "task.negatives.uniform=8", "task.negatives.popularity=8"},
    {"optimizer.kind=sgd", "task.mask_known_positives=true", "train.shuffle=once"},
    {"optimizer.kind=adam", "optimizer.global_clipnorm=0.5", "task.num_hard_negatives=5"},
    {"optimizer.kind=adagrad", "train.shuffle=none", "train.drop_remainder=true",
     "task.similarity=dot"},
    {"optimizer.kind=rmsprop", "optimizer.momentum=0.5", "optimizer.epsilon=0.001"},
    {"optimizer.kind=ftrl", "optimizer.learning_rate=0.3"},
    {"optimizer.kind=clippy-adagrad", "optimizer.learning_rate=0.3",
     "optimizer.absolute_threshold=0.05"},
};

TEST(DeviceTraining, EqualsTheCpuWithinRounding) {
  for (const auto& variant : kVariants) {
    SCOPED_TRACE(variant.front() + " " + variant.back());
    const Loaded l = small(variant);
    const Trained cpu = train(l, Backend::cpu), device = train(l, Backend::cuda);
    ASSERT_EQ(cpu.values.size(), device.values.size());
    double largest = 0;
    for (std::size_t i = 0; i < cpu.values.size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(cpu.values[i] - device.values[i])));
    }
    EXPECT_LT(largest, 2e-4);
    for (std::size_t e = 0; e < cpu.losses.size(); ++e) {
      EXPECT_NEAR(cpu.losses[e], device.losses[e], 1e-5 * std::abs(cpu.losses[e])) << e;
    }
    EXPECT_LT(device.losses.back(), device.losses.front());
  }
}

TEST(DeviceTraining, SameBitsUnderEverySchedule) {
  for (const char* precision : {"train.precision=fp32", "train.precision=bf16"}) {
    const Loaded l = small({"task.negatives.uniform=8", precision});
    std::vector<float> first;
    for_each_schedule([&] {
      const Trained t = train(l, Backend::cuda);
      if (first.empty()) first = t.values;
      expect_equal_bits(t.values, first, precision);
    });
  }
}

TEST(DeviceTraining, HalfTablesFollowTheCpus) {
  for (const char* kind : {"optimizer.kind=adagrad", "optimizer.kind=adam"}) {
    const Loaded l = small({kind, "train.precision=bf16"});
    const Trained cpu = train(l, Backend::cpu), device = train(l, Backend::cuda);
    for (std::size_t e = 0; e < cpu.losses.size(); ++e) {
      EXPECT_NEAR(cpu.losses[e], device.losses[e], 5e-3 * std::abs(cpu.losses[e])) << kind << e;
    }
    EXPECT_LT(device.losses.back(), device.losses.front());
  }
}

TEST(DeviceTraining, SameBitsWhereverTheBatchesComeFrom) {
  for (const auto& variant : kVariants) {
    auto streamed = variant, resident = variant;
    streamed.push_back("train.device_data=streamed");
    resident.push_back("train.device_data=resident");
    for_each_schedule([&] {
      expect_equal_bits(train(small(streamed), Backend::cuda).values,
                        train(small(resident), Backend::cuda).values, variant.front());
    });
  }
}

/// Notes what the device was asked for between the first and the last report of each epoch.
class CountingRecorder : public Recorder {
 public:
  std::vector<simt::Counters> asked;
  void step(const StepReport& r) override {
    Recorder::step(r);
    if (r.step == 1) before_ = simt::counters();
    if (r.step != r.steps) return;
    const simt::Counters now = simt::counters();
    asked.push_back({now.allocations - before_.allocations,
                     now.synchronisations - before_.synchronisations,
                     now.launches - before_.launches, now.graph_launches - before_.graph_launches,
                     now.live_bytes - before_.live_bytes});
  }

 private:
  simt::Counters before_;
};

TEST(DeviceTraining, AsksNothingOfTheHostInsideAnEpoch) {
  for (const auto& [placement, masks] :
       {std::pair("resident", "false"), {"resident", "true"}, {"streamed", "false"}}) {
    SCOPED_TRACE(std::string(placement) + ", masks " + masks);
    // Two chunks of graphs and a smaller one an epoch: 2 x 32 full batches, then 11.
    const Loaded l = load(ratings().config({"train.batch_size=4", "train.epochs=6",
                                            "train.device_data=" + std::string(placement),
                                            "task.mask_known_positives=" + std::string(masks)}));
    const TempFolder folder;
    const Context ctx(Backend::cuda, 1);
    CountingRecorder recorder;
    Trainer trainer(ctx, l.config, l.data, folder.path());
    trainer.run(recorder, {});
    ASSERT_EQ(recorder.asked.size(), 6u);
    for (std::size_t epoch = 0; epoch < 6; ++epoch) {
      SCOPED_TRACE(epoch);
      EXPECT_EQ(recorder.asked[epoch].synchronisations, 0);
      if (epoch == 0) continue;  // the arena grows in the first
      EXPECT_EQ(recorder.asked[epoch].allocations, 0);
      EXPECT_EQ(recorder.asked[epoch].live_bytes, 0);
      if (epoch < 4) continue;  // each slot's shapes are captured when they come the second time
      EXPECT_EQ(recorder.asked[epoch].launches, 0) << "a kernel outside of a graph";
      EXPECT_GT(recorder.asked[epoch].graph_launches, 0);
    }
  }
}

TEST(DeviceTraining, MasksThatDoNotFitAreStreamed) {
  const SmallRatings sparse(500, 150, 1500);
  const auto with = [&](const char* placement) {
    return load(
        sparse.config({"train.batch_size=400", "train.epochs=1", "task.mask_known_positives=true",
                       std::string("train.device_data=") + placement}));
  };
  const std::vector<float> expected = train(with("streamed"), Backend::cuda).values;
  simt::Options options = simt::options();
  options.device_bytes = 8 << 20;  // room for all but the most columns that batches could mask
  const simt::ScopedOptions scope(options);
  expect_equal_bits(train(with("auto"), Backend::cuda).values, expected, "auto");
  EXPECT_THROW(train(with("resident"), Backend::cuda), simt::DeviceFailure);
}

TEST(DeviceTraining, ResumesAsIfItHadNeverStopped) {
  const Loaded l = small({"train.checkpoint={steps=5,keep=2}"});
  const std::vector<float> whole = train(l, Backend::cuda).values;
  for (const int stop_after : {1, 6, 13}) {
    const TempFolder folder;
    std::vector<float> values;
    for (int part = 0; part < 2; ++part) {
      const Context ctx(Backend::cuda, 1);
      Recorder recorder;
      std::stop_source stop;
      Trainer trainer(ctx, l.config, l.data, folder.path());
      EXPECT_EQ(trainer.restore(recorder), part == 1);
      recorder.on_step = [&](const StepReport&) {
        if (part == 0 && recorder.steps == stop_after) stop.request_stop();
      };
      EXPECT_EQ(trainer.run(recorder, stop.get_token()),
                part == 0 ? TrainOutcome::stopped : TrainOutcome::finished);
      values = all_values(trainer.model().registry());
    }
    expect_equal_bits(values, whole, "stopped after " + std::to_string(stop_after));
  }
}

TEST(DeviceTraining, AFaultOfWhatRunsAheadStopsTheRun) {
  for (const char* placement : {"train.device_data=resident", "train.device_data=streamed"}) {
    Loaded l = small({placement});
    l.data.features[1].values.rows[3] = 1 << 20;  // a row that the table does not have
    const TempFolder folder;
    const Context ctx(Backend::cuda, 1);
    Recorder recorder;
    Trainer trainer(ctx, l.config, l.data, folder.path());
    EXPECT_THROW(trainer.run(recorder, {}), ContractError) << placement;
  }
}

TEST(DeviceTraining, ALossThatIsNotFiniteNamesItsStep) {
  Loaded l = small({"train.shuffle=none"});
  l.data.train.weight.assign(static_cast<std::size_t>(l.data.train.size()), 1.0f);
  l.data.train.weight[3 * 32] = std::numeric_limits<float>::infinity();
  const TempFolder folder;
  const Context ctx(Backend::cuda, 1);
  Recorder recorder;
  Trainer trainer(ctx, l.config, l.data, folder.path() / "checkpoints");
  const Error e = error_of([&] { trainer.run(recorder, {}); });
  EXPECT_EQ(e.code(), ExitCode::numerical);
  EXPECT_EQ(e.where(), "step 4");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "checkpoints"));
}

}  // namespace
}  // namespace belfry::test
