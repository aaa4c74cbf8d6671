// SPDX-License-Identifier: Apache-2.0
#include "engine/npy.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "kernels/core/check.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

/// An .npy file from its dictionary, padded as NumPy pads it.
std::string npy_file(const std::string& dictionary, std::size_t data_bytes, int major = 1) {
  const std::size_t prefix = major == 1 ? 10 : 12;
  std::string header = dictionary;
  while ((prefix + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string file = "\x93NUMPY";
  file += static_cast<char>(major);
  file += '\0';
  for (std::size_t i = 8; i < prefix; ++i) {
    file += static_cast<char>(header.size() >> (8 * (i - 8)) & 255);
  }
  return file + header + std::string(data_bytes, '\0');
}

std::string dictionary(const std::string& descr, const std::string& order,
                       const std::string& shape) {
  return "{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }";
}

std::vector<float> ramp(std::size_t n) {
  std::vector<float> values(n);
  std::iota(values.begin(), values.end(), 0.5f);
  return values;
}

TEST(Npy, WritesNumPysBytes) {
  TempFolder dir;
  const float data[] = {1.f, 2.f, 3.f, 4.f, 5.f, 6.f};
  NpyWriter writer(dir / "a.npy", "<f4", {2, 3});
  writer.write(data, 2);
  writer.write(data + 2, 4);
  writer.commit();
  std::string wanted = npy_file(dictionary("'<f4'", "False", "(2, 3)"), 24);
  std::memcpy(wanted.data() + 128, data, 24);
  EXPECT_EQ(slurp(dir / "a.npy"), wanted);
  EXPECT_EQ(names_in(dir.path()).size(), 1u);
}

TEST(Npy, WritesAnyRank) {
  TempFolder dir;
  const std::int64_t data[] = {-1, 2, 3, 4};
  const struct {
    std::vector<std::int64_t> shape;
    std::string text;
  } cases[] = {{{}, "()"}, {{4}, "(4,)"}, {{2, 1, 2}, "(2, 1, 2)"}, {{3, 0}, "(3, 0)"}};
  for (const auto& c : cases) {
    std::int64_t n = 1;
    for (const std::int64_t extent : c.shape) n *= extent;
    NpyWriter writer(dir / "a.npy", "<i8", c.shape);
    writer.write(data, n);
    writer.commit();
    EXPECT_NE(
        slurp(dir / "a.npy").find("'<i8', 'fortran_order': False, 'shape': " + c.text + ", }"),
        std::string::npos);
    EXPECT_EQ(slurp(dir / "a.npy").size(), 128 + 8 * static_cast<std::size_t>(n));
  }
}

TEST(Npy, AnArrayIsWrittenWholeOrNotAtAll) {
  TempFolder dir;
  const std::vector<float> data = ramp(6);
  {
    NpyWriter writer(dir / "a.npy", "<f4", {2, 3});
    writer.write(data.data(), 5);
    EXPECT_THROW(writer.write(data.data(), 2), ContractError);
    EXPECT_THROW(writer.commit(), ContractError);
  }
  EXPECT_TRUE(names_in(dir.path()).empty());
  EXPECT_THROW(NpyWriter(dir / "a.npy", ">f4", {2}), ContractError);
  EXPECT_THROW(NpyWriter(dir / "a.npy", "<f4", {-1}), std::length_error);
}

TEST(Npy, ReadsInChunksAndPitches) {
  TempFolder dir;
  const std::vector<float> data = ramp(33 * 7);
  for (const int major : {1, 2}) {
    std::string file = npy_file(dictionary("'<f4'", "False", "(33, 7)"), 0, major);
    file.append(reinterpret_cast<const char*>(data.data()), 4 * data.size());
    spill(dir / "a.npy", file);
    const NpyMatrix array(dir / "a.npy");
    ASSERT_EQ(array.rows(), 33);
    ASSERT_EQ(array.cols(), 7);
    for (const std::int64_t chunk : {1, 5, 32, 33}) {
      std::vector<float> got(data.size());
      for (std::int64_t i = 0; i < 33; i += chunk) {
        array.read(i, {got.data() + 7 * i, std::min<std::int64_t>(chunk, 33 - i), 7});
      }
      EXPECT_EQ(got, data);
    }
    std::vector<float> padded(3 * 10, -1.f);
    array.read(30, {padded.data(), 3, 7, 10});
    EXPECT_EQ(padded[10], data[31 * 7]);
    EXPECT_EQ(padded[26], data[33 * 7 - 1]);
    EXPECT_EQ(padded[17], -1.f);
    EXPECT_THROW(array.read(31, {padded.data(), 3, 7}), ContractError);
    EXPECT_THROW(array.read(-1, {padded.data(), 1, 7}), ContractError);
    EXPECT_THROW(array.read(0, {padded.data(), 1, 6}), ContractError);
  }
}

TEST(Npy, ReadsWhatItWrote) {
  TempFolder dir;
  for (const std::int64_t rows : {0, 1, 31}) {
    const std::vector<float> data = ramp(static_cast<std::size_t>(rows * 5));
    NpyWriter writer(dir / "a.npy", "<f4", {rows, 5});
    writer.write(data.data(), rows * 5);
    writer.commit();
    const NpyMatrix array(dir / "a.npy");
    EXPECT_EQ(array.rows(), rows);
    std::vector<float> got(data.size());
    array.read(0, {got.data(), rows, 5});
    EXPECT_EQ(got, data);
  }
}

TEST(Npy, HostileHeadersAreRefused) {
  TempFolder dir;
  const std::string f4 = "'<f4'";
  const struct {
    std::string file, reason;
  } cases[] = {
      {"", "not an .npy file"},
      {"\x93NUMP", "not an .npy file"},
      {"1,2,3,4,5,6,7\n8,9,10\n", "not an .npy file"},
      {npy_file(dictionary(f4, "False", "(2, 3)"), 24, 3), "version 3.0"},
      {npy_file(dictionary(f4, "False", "(2, 3)"), 23), "does not fit its 23 bytes"},
      {npy_file(dictionary(f4, "False", "(2, 3)"), 25), "does not fit its 25 bytes"},
      {npy_file(dictionary(f4, "False", "(2, 3)"), 24).substr(0, 100), "cut short"},
      {npy_file(dictionary(f4, "False", "(2, 3)"), 24, 2).substr(0, 11), "cut short"},
      {npy_file(dictionary("'>f4'", "False", "(2, 3)"), 24), "not float32"},
      {npy_file(dictionary("'<f8'", "False", "(2, 3)"), 48), "not float32"},
      {npy_file(dictionary("'|O'", "False", "(2, 3)"), 24), "not float32"},
      {npy_file(dictionary("[('a', '<f4')]", "False", "(2, 3)"), 24), "no plain number type"},
      {npy_file(dictionary(f4, "True", "(2, 3)"), 24), "Fortran order"},
      {npy_file(dictionary(f4, "0", "(2, 3)"), 24), "damaged"},
      {npy_file(dictionary(f4, "False", "(6,)"), 24), "its shape is (6,)"},
      {npy_file(dictionary(f4, "False", "()"), 4), "its shape is ()"},
      {npy_file(dictionary(f4, "False", "(1, 2, 3)"), 24), "its shape is (1, 2, 3)"},
      {npy_file(dictionary(f4, "False", "(6)"), 24), "damaged"},
      {npy_file(dictionary(f4, "False", "(2 3)"), 24), "damaged"},
      {npy_file(dictionary(f4, "False", "(2,, 3)"), 24), "damaged"},
      {npy_file(dictionary(f4, "False", "(,)"), 24), "damaged"},
      {npy_file(dictionary(f4, "False", "(2.0, 3)"), 24), "damaged"},
      {npy_file(dictionary(f4, "False", "(-2, -3)"), 24), "negative"},
      {npy_file(dictionary(f4, "False", "(1099511627777, 1)"), 24), "too large"},
      {npy_file(dictionary(f4, "False", "(99999999999999999999, 1)"), 24), "too large"},
      {npy_file(dictionary(f4, "False", "(1099511627776, 1099511627776)"), 24), "does not fit"},
      // 2^40 * 2^22 * 4 is 0 in 64 bits
      {npy_file(dictionary(f4, "False", "(1099511627776, 4194304)"), 0), "does not fit"},
      {npy_file("{'descr': '<f4', 'fortran_order': False}", 24), "damaged"},
      {npy_file("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", 24),
       "key twice"},
      {npy_file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}", 24),
       "unknown key"},
      {npy_file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} + 1", 24), "damaged"},
      {npy_file("{'descr': '<f4", 24), "damaged"},
      {npy_file("{'descr': '<f4', 'fortran_order': False, 'shape': (2", 24), "damaged"},
      {npy_file("{", 24), "damaged"},
      {npy_file("", 24), "damaged"},
      {npy_file(dictionary(f4, "False", "(2, 3)") + std::string(70'000, ' '), 24, 2), "too long"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.file.substr(0, 120));
    spill(dir / "a.npy", c.file);
    const Error error = error_of([&] { NpyMatrix array(dir / "a.npy"); });
    EXPECT_EQ(error.code(), ExitCode::bad_data);
    EXPECT_EQ(error.where(), (dir / "a.npy").string());
    EXPECT_NE(std::string(error.what()).find(c.reason), std::string::npos) << error.what();
  }
  EXPECT_EQ(error_of([&] { NpyMatrix array(dir / "none.npy"); }).code(), ExitCode::io);
}

TEST(Npy, EveryTruncationIsRefused) {
  TempFolder dir;
  const std::string good = npy_file(dictionary("'<f4'", "False", "(2, 3)"), 24);
  spill(dir / "a.npy", good);
  for (std::size_t cut = good.size(); cut-- > 0;) {
    std::filesystem::resize_file(dir / "a.npy", cut);
    EXPECT_EQ(error_of([&] { NpyMatrix array(dir / "a.npy"); }).code(), ExitCode::bad_data);
  }
}

TEST(Npy, OtherSpellingsOfAHeader) {
  TempFolder dir;
  spill(dir / "a.npy",
        npy_file("{\"shape\":(2,3,),\"fortran_order\":False,\"descr\":\"<f4\"}", 24));
  EXPECT_EQ(NpyMatrix(dir / "a.npy").cols(), 3);
}

}  // namespace
}  // namespace belfry::test
