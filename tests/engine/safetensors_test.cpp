// SPDX-License-Identifier: Apache-2.0
#include "engine/safetensors.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "engine/checksum.hpp"
#include "engine/safetensors_header.hpp"
#include "kernels/core/check.hpp"
#include "tests/support/temp_folder.hpp"

namespace belfry::test {
namespace {

namespace fs = std::filesystem;

const std::vector<float> kFloats{1.5f, -2.f, 3.25f, 0.f, 5e-30f, 6.f};
const std::vector<std::int64_t> kLongs{-1, std::int64_t{1} << 62};
const std::vector<std::uint8_t> kBytes{1, 2, 3, 4, 5};

/// A small file of every sort of thing: several dtypes, an odd size, two empty tensors, odd metadata.
void write_small(const fs::path& path) {
  SafetensorsWriter writer;
  writer.metadata("zeta", "last");
  writer.metadata("alpha", "quote \" backslash \\ line\n \xc3\xa9");
  writer.add("matrix", DType::f32, {2, 3}, kFloats.data());
  writer.add("odd", DType::u8, {5}, kBytes.data());
  writer.add("empty", DType::i32, {0}, nullptr);
  writer.add("empty 2", DType::f32, {3, 0}, nullptr);
  writer.add("longs", DType::i64, {2}, kLongs.data());
  writer.add("scalar", DType::f32, {}, kFloats.data());
  OutputFile out(path);
  writer.write(out);
  out.commit();
}

/// A file of raw parts, as another program may have written it.
std::string raw_file(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t n = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &n, 8);
  return file + header + std::string(data_bytes, 'd');
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape +
         "],\"data_offsets\":[" + offsets + "]}";
}

TEST(Safetensors, SourcesGiveTheSameFile) {
  // Rows of 12 bytes, more than are asked for at a time; a matrix without rows, one without columns.
  constexpr std::int64_t kRows = 1000000, kCols = 3;
  std::vector<float> values(kRows * kCols);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  TempFolder dir;
  std::int64_t asked = 0, most = 0;
  const auto write = [&](const std::string& name, bool sources) {
    SafetensorsWriter writer;
    const auto add = [&](const char* tensor, std::int64_t rows, std::int64_t cols) {
      if (!sources) return writer.add(tensor, DType::f32, {rows, cols}, values.data());
      writer.add(tensor, DType::f32, {rows, cols},
                 [&, cols](std::int64_t first, std::int64_t n, void* out) {
                   asked += n;
                   most = std::max(most, n);
                   std::memcpy(out, values.data() + first * cols,
                               static_cast<std::size_t>(n * cols) * sizeof(float));
                 });
    };
    add("a", kRows, kCols);
    add("none", 0, 4);
    add("narrow", 4, 0);
    add("wide", 2, kRows);
    OutputFile out(dir / name);
    writer.write(out);
    out.commit();
  };
  write("memory", false);
  write("source", true);
  EXPECT_TRUE(slurp(dir / "memory") == slurp(dir / "source"));
  EXPECT_EQ(asked, 2 * (kRows + 2));  // for the checksum, and for the file
  EXPECT_LT(most, kRows);
  SafetensorsWriter writer;
  EXPECT_THROW(writer.add("x", DType::f32, {2}, SafetensorsWriter::Source()), ContractError);
}

TEST(Safetensors, RoundTrip) {
  TempFolder dir;
  write_small(dir / "m.safetensors");
  const SafetensorsFile file(dir / "m.safetensors");
  EXPECT_EQ(file.metadata("alpha"), "quote \" backslash \\ line\n \xc3\xa9");
  EXPECT_EQ(file.metadata().size(), 3u);
  EXPECT_EQ(file.metadata("belfry.xxh3_128").size(), 32u);
  EXPECT_EQ(error_of([&] { (void)file.metadata("none"); }).code(), ExitCode::bad_model);
  ASSERT_EQ(file.tensors().size(), 6u);
  EXPECT_EQ(file.tensors()[3].name, "empty 2");
  EXPECT_TRUE(file.has("odd"));
  EXPECT_FALSE(file.has("even"));
  EXPECT_EQ(file.read_all<float>("matrix", DType::f32, {2, -1}), kFloats);
  EXPECT_EQ(file.read_all<std::uint8_t>("odd", DType::u8), kBytes);
  EXPECT_EQ(file.read_all<std::int64_t>("longs", DType::i64), kLongs);
  EXPECT_TRUE(file.read_all<std::int32_t>("empty", DType::i32).empty());
  EXPECT_EQ(file.read_all<float>("scalar", DType::f32, {}), std::vector<float>{1.5f});
  float part[2];
  file.read(file.info("matrix"), 2, 2, part);
  EXPECT_EQ(part[0], 3.25f);
  EXPECT_EQ(part[1], 0.f);
  EXPECT_THROW(file.read(file.info("matrix"), 5, 2, part), ContractError);
  EXPECT_THROW(file.read(file.info("matrix"), -1, 1, part), ContractError);
}

TEST(Safetensors, BytesAreDeterministicAndAligned) {
  TempFolder dir;
  write_small(dir / "a");
  write_small(dir / "b");
  const std::string bytes = slurp(dir / "a");
  EXPECT_EQ(bytes, slurp(dir / "b"));
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ((8 + header) % 64, 0u);
  EXPECT_EQ(std::memcmp(bytes.data() + 8 + header, kFloats.data(), 24), 0);
  EXPECT_TRUE(bytes.substr(8).starts_with("{\"__metadata__\":{\"alpha\":"));
}

TEST(Safetensors, TheChecksumIsWhatTheFormatSays) {
  TempFolder dir;
  write_small(dir / "m");
  std::string bytes = slurp(dir / "m");
  const std::string digits = SafetensorsFile(dir / "m").metadata("belfry.xxh3_128");
  bytes.replace(bytes.find(digits), 32, std::string(32, '0'));
  spill(dir / "zeroed", bytes);
  EXPECT_EQ(xxh3_of_file(dir / "zeroed"), digits);
  spill(dir / "nothing", "");
  EXPECT_EQ(xxh3_of_file(dir / "nothing"), "99aa06d3014798d86001c324468d497f");  // of XXH3-128
}

TEST(Safetensors, AnEmptyFileHasNoTensors) {
  TempFolder dir;
  OutputFile out(dir / "m");
  SafetensorsWriter().write(out);
  out.commit();
  EXPECT_TRUE(SafetensorsFile(dir / "m").tensors().empty());
}

TEST(Safetensors, WrongShapesAndTypesAreNamed) {
  TempFolder dir;
  write_small(dir / "m");
  const SafetensorsFile file(dir / "m");
  EXPECT_NO_THROW(file.info("matrix", DType::f32, {-1, 3}));
  const std::string place = (dir / "m").string();
  EXPECT_EQ(std::string(error_of([&] {
                          file.info("matrix", DType::f32, {-1, 4});
                        }).what()),
            place + ": tensor 'matrix' is F32 [2, 3], wanted F32 [any, 4]");
  for (const auto& shape : {std::vector<std::int64_t>{6}, {2, 3, 1}, {2}, {}}) {
    EXPECT_EQ(error_of([&] { file.info("matrix", DType::f32, shape); }).code(),
              ExitCode::bad_model);
  }
  EXPECT_EQ(error_of([&] { file.info("matrix", DType::i32, {2, 3}); }).code(), ExitCode::bad_model);
  EXPECT_EQ(error_of([&] { file.info("none"); }).code(), ExitCode::bad_model);
  EXPECT_THROW(file.read_all<double>("odd", DType::u8), ContractError);
}

TEST(Safetensors, MisuseOfTheWriterIsABug) {
  SafetensorsWriter writer;
  writer.add("a", DType::u8, {5}, kBytes.data());
  EXPECT_THROW(writer.add("a", DType::u8, {5}, kBytes.data()), ContractError);
  EXPECT_THROW(writer.add("__metadata__", DType::u8, {5}, kBytes.data()), ContractError);
  EXPECT_THROW(writer.add("", DType::u8, {5}, kBytes.data()), ContractError);
  EXPECT_THROW(writer.add("b", DType::u8, {1, 1, 1, 1, 5}, kBytes.data()), ContractError);
  EXPECT_THROW(writer.add("b", DType::u8, {5}, nullptr), ContractError);
  EXPECT_THROW(writer.add("b", DType::u8, {-1}, kBytes.data()), std::length_error);
  EXPECT_THROW(writer.metadata("belfry.xxh3_128", "x"), ContractError);
}

TEST(Safetensors, EveryFlippedBitIsRefused) {
  TempFolder dir;
  write_small(dir / "m");
  const std::string good = slurp(dir / "m");
  int refused = 0;
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    flip_bit(dir / "m", bit);
    try {
      SafetensorsFile file(dir / "m");
      ADD_FAILURE() << "bit " << bit << " flipped, not noticed";
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ExitCode::bad_model) << "bit " << bit << ": " << error.what();
      ASSERT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      ++refused;
    }
    flip_bit(dir / "m", bit);
  }
  EXPECT_EQ(slurp(dir / "m"), good);
  EXPECT_EQ(refused, static_cast<int>(8 * good.size()));
}

TEST(Safetensors, EveryTruncationAndExtensionIsRefused) {
  TempFolder dir;
  write_small(dir / "m");
  const std::string good = slurp(dir / "m");
  for (const bool verify : {true, false}) {
    spill(dir / "bad", good);
    for (std::size_t cut = good.size(); cut-- > 0;) {
      fs::resize_file(dir / "bad", cut);
      EXPECT_EQ(error_of([&] { SafetensorsFile file(dir / "bad", verify); }).code(),
                ExitCode::bad_model);
    }
    spill(dir / "bad", good + "x");
    EXPECT_EQ(error_of([&] { SafetensorsFile file(dir / "bad", verify); }).code(),
              ExitCode::bad_model);
  }
}

TEST(Safetensors, FilesOfOtherWritersNeedNoChecksum) {
  TempFolder dir;
  const std::string header = "{" + tensor("b", "BF16", "2,2", "4,12") + "," +
                             tensor("a", "I8", "4", "0,4") + ",\"__metadata__\":{}}  ";
  spill(dir / "m", raw_file(header, 12));
  const SafetensorsFile file(dir / "m", false);
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file.info("b").elements(), 4);
  EXPECT_EQ(error_of([&] { SafetensorsFile strict(dir / "m"); }).code(), ExitCode::bad_model);
  EXPECT_EQ(error_of([&] { SafetensorsFile none(dir / "none", false); }).code(), ExitCode::io);
  EXPECT_EQ(error_of([&] { SafetensorsFile folder(dir.path(), false); }).code(), ExitCode::io);
}

TEST(Safetensors, HostileHeadersAreRefused) {
  TempFolder dir;
  const std::string t = tensor("t", "F32", "2", "0,8");
  const std::string deep(100'000, '[');
  const struct {
    std::string header, reason;
  } cases[] = {
      {"", "does not begin with '{'"},
      {" {}", "does not begin with '{'"},
      {"[]", "does not begin with '{'"},
      {"{", "not JSON"},
      {"{" + t + "}x", "not JSON"},
      {"{" + t + ",}", "not JSON"},
      {"{\"\xff\":{}}", "not JSON"},
      {"{" + t + "," + t + "}", "key 't' twice"},
      {"{\"__metadata__\":{},\"__metadata__\":{}," + t + "}", "key '__metadata__' twice"},
      {"{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}," + t + "}", "metadata key 'k' twice"},
      {"{\"__metadata__\":{\"k\":1}," + t + "}", "a number where"},
      {"{\"__metadata__\":{\"k\":{}}," + t + "}", "an object where"},
      {"{\"__metadata__\":[]," + t + "}", "an array where"},
      {"{\"__metadata__\":null," + t + "}", "a null"},
      {"{\"t\":" + deep + "}", "an array where"},
      {"{\"t\":3}", "a number where"},
      {"{\"t\":{\"dtype\":{}}}", "an object where"},
      {"{\"t\":{}}", "are missing"},
      {"{\"t\":{\"dtype\":\"F32\",\"shape\":[2]}}", "are missing"},
      {"{\"t\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", "are missing"},
      {"{\"t\":{\"shape\":[2],\"data_offsets\":[0,8]}}", "are missing"},
      {"{\"t\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
       "twice"},
      {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[2],\"data_offsets\":[0,8]}}", "twice"},
      {"{\"t\":{\"dtype\":\"F32\",\"extra\":1,\"shape\":[2],\"data_offsets\":[0,8]}}",
       "unknown key"},
      {"{" + tensor("t", "F33", "2", "0,8") + "}", "unknown dtype 'F33'"},
      {"{" + tensor("t", "f32", "2", "0,8") + "}", "unknown dtype"},
      {"{" + tensor("t", "F32", "-2", "0,8") + "}", "negative"},
      {"{" + tensor("t", "F32", "2.0", "0,8") + "}", "unsigned integer"},
      {"{" + tensor("t", "F32", "2e0", "0,8") + "}", "unsigned integer"},
      {"{" + tensor("t", "F32", "18446744073709551616", "0,8") + "}", "unsigned integer"},
      {"{" + tensor("t", "F32", "true", "0,8") + "}", "a boolean"},
      {"{" + tensor("t", "F32", "\"2\"", "0,8") + "}", "a string where"},
      {"{" + tensor("t", "F32", "[2]", "0,8") + "}", "an array where"},
      {"{" + tensor("t", "F32", "1,1,1,1,2", "0,8") + "}", "more than 4 dimensions"},
      {"{" + tensor("t", "F32", "1099511627777", "0,8") + "}", "over 2^40"},
      {"{" + tensor("t", "F32", "1099511627776,1099511627776", "0,8") + "}", "overflows"},
      {"{" + tensor("t", "F32", "0,1099511627776,1099511627776", "0,0") + "}", "overflows"},
      {"{" + tensor("t", "F64", "1099511627776,1048576", "0,0") + "}", "overflows"},
      {"{" + tensor("t", "F64", "1099511627776,2097152,0", "0,0") + "}", "overflows"},
      {"{" + tensor("t", "F32", "4194305,4194305,211106198978564", "0,8") + "}", "over 2^40"},
      {"{" + tensor("t", "F32", "3", "0,8") + "}", "need 12 bytes"},
      {"{" + tensor("t", "F64", "2", "0,8") + "}", "need 16 bytes"},
      {"{" + tensor("t", "F32", "0", "0,8") + "}", "need 0 bytes"},
      {"{" + tensor("t", "F32", "2", "8,0") + "}", "need 8 bytes"},
      {"{" + tensor("t", "F32", "2", "0") + "}", "are missing"},
      {"{" + tensor("t", "F32", "2", "0,8,8") + "}", "more than two"},
      {"{" + tensor("t", "F32", "2", "4,12") + "}", "holes or overlaps"},
      {"{" + tensor("t", "F32", "2", "18446744073709551608,0") + "}", "need 8 bytes"},
      {"{" + tensor("t", "F32", "1", "0,4") + "}", "its tensors take 4 bytes"},
      {"{" + tensor("t", "F32", "3", "0,12") + "}", "its tensors take 12 bytes"},
      {"{}", "its tensors take 0 bytes"},
      {"{" + tensor("a", "U8", "5", "0,5") + "," + tensor("b", "U8", "4", "4,8") + "}",
       "holes or overlaps"},
      {"{" + tensor("a", "U8", "3", "0,3") + "," + tensor("b", "U8", "4", "4,8") + "}",
       "holes or overlaps"},
      {"{" + t + "," + tensor("b", "F32", "2", "0,8") + "}", "begin at the same byte"},
      {"{" + t + "," + tensor("b", "F32", "0", "0,0") + "}", "begin at the same byte"},
      {"{" + t + "," + tensor("b", "F32", "0", "4,4") + "}", "holes or overlaps"},
      {"{" + t + "," + tensor("b", "F32", "0", "9,9") + "}", "holes or overlaps"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.header.substr(0, 200));
    spill(dir / "m", raw_file(c.header, 8));
    const Error error = error_of([&] { SafetensorsFile file(dir / "m", false); });
    EXPECT_EQ(error.code(), ExitCode::bad_model);
    EXPECT_EQ(error.where(), (dir / "m").string());
    EXPECT_NE(std::string(error.what()).find(c.reason), std::string::npos) << error.what();
  }
  spill(dir / "m", raw_file("{" + t + "}", 8));
  EXPECT_NO_THROW(SafetensorsFile(dir / "m", false));  // what the cases differ from is good
}

TEST(Safetensors, HugeHeaderLengthsAreRefusedUnread) {
  TempFolder dir;
  for (const std::uint64_t length :
       {std::uint64_t{9}, std::uint64_t{1} << 31, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    std::string file(16, ' ');
    std::memcpy(file.data(), &length, 8);
    spill(dir / "m", file);
    EXPECT_EQ(error_of([&] { SafetensorsFile f(dir / "m", false); }).code(), ExitCode::bad_model);
  }
  // Over the limit though the (sparse) file is long enough.
  const std::uint64_t length = (std::uint64_t{16} << 20) + 1;
  spill(dir / "m", std::string(reinterpret_cast<const char*>(&length), 8));
  fs::resize_file(dir / "m", std::uint64_t{1} << 30);
  const Error error = error_of([&] { SafetensorsFile f(dir / "m", false); });
  EXPECT_EQ(error.code(), ExitCode::bad_model);
  EXPECT_NE(std::string(error.what()).find("a header of 16777217 bytes"), std::string::npos);
}

TEST(Safetensors, ErrorLinesStayOneLine) {
  EXPECT_EQ(printable("a\nb\x1b\xff"), "a\\x0ab\\x1b\\xff");
  EXPECT_EQ(printable(std::string(1000, 'x')).size(), 63u);
  const auto header = parse_safetensors_header("{\"a\\nb\":{\"dtype\":\"\\u0000\"}}");
  EXPECT_EQ(header.error, "tensor 'a\\x0ab': unknown dtype '\\x00'");
}

TEST(Checksum, ItsPlaceMustBeOne) {
  const std::string digits(32, '1');
  EXPECT_EQ(find_checksum("ab\"k\":\"" + digits + "\"", "\"k\":\""), 7u);
  EXPECT_FALSE(find_checksum("ab\"k\":\"" + digits, "\"k\":\""));
  EXPECT_FALSE(find_checksum("ab\"k\":\"" + digits + "1\"", "\"k\":\""));
  EXPECT_FALSE(find_checksum("\"k\":\"" + digits + "\"\"k\":\"" + digits + "\"", "\"k\":\""));
  EXPECT_FALSE(find_checksum("", "\"k\":\""));
}

}  // namespace
}  // namespace belfry::test
