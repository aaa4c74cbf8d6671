// SPDX-License-Identifier: Apache-2.0
// What is wrong with a data file is said once, at its place, and nothing is left behind.
#include <gtest/gtest.h>

#include "tests/support/table_files.hpp"
#include "tests/support/workspace.hpp"

namespace belfry::test {
namespace {

constexpr const char* kHeader = "userId,movieId,rating,timestamp\n";

/// 40 users with 20 items each, so that a file with nothing wrong in it trains.
std::string good_rows(const std::string& line_end = "\n") {
  std::string text;
  for (int u = 1; u <= 40; ++u) {
    for (int i = u; i < u + 20; ++i) {
      text += std::to_string(u) + "," + std::to_string(i) + ",4.0,9649" +
              std::to_string(100 * u + i) + line_end;
    }
  }
  return text;
}
/// Line number of a row that follows the header and the good rows.
const std::string kLast = "802";

class BadData : public ::testing::Test {
 protected:
  Answer train(const std::string& file, const std::vector<std::string>& more = {}) const {
    return work_.train(file, "run", more);
  }
  /// Trains on a file of these bytes: must be refused with `pattern`, leaving nothing.
  void refused(const std::string& bytes, const std::string& pattern,
               const std::string& name = "bad.csv",
               const std::vector<std::string>& more = {}) const {
    work_.write(name, bytes);
    expect_error(train(work_.path(name), more), ExitCode::bad_data, pattern);
    EXPECT_EQ(work_.names(), std::vector<std::string>{name}) << "something is left behind";
  }
  void refused_row(const std::string& row, const std::string& pattern,
                   const std::vector<std::string>& more = {}) const {
    refused(kHeader + good_rows() + row + "\n" + good_rows(), pattern, "bad.csv", more);
  }
  /// The checksum of the model of a file that must be accepted.
  std::string accepted(const std::string& name, const std::string& bytes) const {
    work_.write(name, bytes);
    expect_good(work_.train(work_.path(name), name + "-run"));
    return work_.sha256(name + "-run/model.safetensors");
  }
  Workspace work_;
};

TEST_F(BadData, ByteOrderMarkIsNoPartOfTheFirstName) {
  EXPECT_EQ(accepted("bom.csv", "\xEF\xBB\xBF" + (kHeader + good_rows())),
            accepted("plain.csv", kHeader + good_rows()));
}

TEST_F(BadData, CarriageReturnLineFeedEndsALine) {
  std::string header = kHeader;
  header.insert(header.size() - 1, "\r");
  EXPECT_EQ(accepted("crlf.csv", header + good_rows("\r\n")),
            accepted("plain.csv", kHeader + good_rows()));
}

TEST_F(BadData, MissingFinalNewlineLosesNoRow) {
  std::string cut = kHeader + good_rows();
  cut.pop_back();
  EXPECT_EQ(accepted("cut.csv", cut), accepted("plain.csv", kHeader + good_rows()));
}

TEST_F(BadData, BlankLinesAreNoRows) {
  EXPECT_EQ(accepted("blank.csv", kHeader + good_rows("\n\n")),
            accepted("plain.csv", kHeader + good_rows()));
}

TEST_F(BadData, QuotedFieldsAreTheirContent) {
  std::string quoted = good_rows();
  for (std::size_t at = 0; (at = quoted.find(",4.0,", at)) != std::string::npos; at += 7) {
    quoted.replace(at, 5, ",\"4.0\",");
  }
  EXPECT_EQ(accepted("quoted.csv", kHeader + quoted), accepted("plain.csv", kHeader + good_rows()));
}

TEST_F(BadData, LoneCarriageReturn) {
  refused_row("7,8\r,4.0,1", "bad\\.csv:" + kLast + ":4: .*carriage return");
}

TEST_F(BadData, CarriageReturnsAloneAsLineEnds) {
  std::string header = kHeader;
  header.back() = '\r';
  refused(header + good_rows("\r"), "bad\\.csv:1:\\d+: .*carriage return");
}

TEST_F(BadData, QuoteThatIsNeverClosed) {
  refused(kHeader + good_rows() + "7,\"8,4.0,1\n", "bad\\.csv:" + kLast + ":3: .*quote");
}

TEST_F(BadData, TextBehindAClosingQuote) {
  refused_row("7,\"8\"x,4.0,1", "bad\\.csv:" + kLast + ":6: .*quote");
}

TEST_F(BadData, TooFewColumns) {
  refused_row("7,8", "bad\\.csv:" + kLast + ":\\d+: 2 columns .* 4");
}

TEST_F(BadData, TooManyColumns) {
  refused_row("7,8,4.0,1,9", "bad\\.csv:" + kLast + ":\\d+: 5 columns .* 4");
}

TEST_F(BadData, NotANumber) {
  refused_row("7,8,nan,1", "bad\\.csv:" + kLast + ":5: .*\"nan\".*rating");
}

TEST_F(BadData, Infinity) {
  refused_row("7,8,1e999,1", "bad\\.csv:" + kLast + ":5: .*1e999.*finite");
}

TEST_F(BadData, LetterForADigit) {
  refused_row("7,8,4.O,1", "bad\\.csv:" + kLast + ":5: .*4\\.O.*number");
}

TEST_F(BadData, NumberWithASpaceBehind) {
  refused_row("7,8,4 ,1", "bad\\.csv:" + kLast + ":5: ");
}

TEST_F(BadData, HexadecimalNumber) {
  refused_row("7,8,0x4,1", "bad\\.csv:" + kLast + ":5: ");
}

TEST_F(BadData, EmptyNumber) {
  refused_row("7,8,,1", "bad\\.csv:" + kLast + ":5: ");
}

TEST_F(BadData, EmptyId) {
  refused_row("7,,4.0,1", "bad\\.csv:" + kLast + ":3: .*empty.*movieId");
}

TEST_F(BadData, IntegerOutOfRange) {
  refused_row("7,9223372036854775808,4.0,1", "bad\\.csv:" + kLast + ":3: .*64-bit",
              {"data.id_type=int"});
}

TEST_F(BadData, IntegerFarOutOfRange) {
  refused_row("-99999999999999999999,8,4.0,1", "bad\\.csv:" + kLast + ":1: .*64-bit",
              {"data.id_type=int"});
}

// A column of whole numbers is held to int64 though times are used as real numbers.
TEST_F(BadData, TimestampOutOfRange) {
  refused_row("7,8,4.0,99999999999999999999", "bad\\.csv:" + kLast + ":9: .*64-bit");
}

TEST_F(BadData, FractionWhereAnIntegerIsWanted) {
  refused_row("7,8.5,4.0,1", "bad\\.csv:" + kLast + ":3: .*integer", {"data.id_type=int"});
}

TEST_F(BadData, BytesThatAreNoUtf8) {
  refused_row("7,caf\xE9,4.0,1", "bad\\.csv:" + kLast + ":3: .*UTF-8.*movieId");
}

TEST_F(BadData, ControlCharacterInAnId) {
  refused_row("7,a\tb,4.0,1", "bad\\.csv:" + kLast + ":3: .*control character.*movieId");
}

TEST_F(BadData, NulByteInAnId) {
  refused_row(std::string("7,a\0b,4.0,1", 11), "bad\\.csv:" + kLast + ":3: .*control character");
}

TEST_F(BadData, FieldOf64KiB) {
  refused_row("7," + std::string(65537, 'x') + ",4.0,1",
              "bad\\.csv:" + kLast + ":3: .*(65536|64 KiB)");
}

TEST_F(BadData, QuotedFieldWithoutEnd) {
  refused(kHeader + good_rows() + "7,\"" + std::string(300'000, 'x'),
          "bad\\.csv:" + kLast + ":3: ");
}

TEST_F(BadData, TruncatedGzip) {
  const std::string whole = gzipped(kHeader + good_rows());
  refused(whole.substr(0, whole.size() - 9), "cut\\.csv\\.gz: .*truncated", "cut.csv.gz");
}

TEST_F(BadData, DamagedGzip) {
  std::string bytes = gzipped(kHeader + good_rows());
  bytes[bytes.size() / 2] ^= 0x10;
  refused(bytes, "hurt\\.csv\\.gz: ", "hurt.csv.gz");
}

TEST_F(BadData, GzipInNameAlone) {
  refused(kHeader + good_rows(), "named\\.csv\\.gz: does not hold gzip", "named.csv.gz");
}

TEST_F(BadData, TruncatedZstandard) {
  const std::string whole = zstandard(kHeader + good_rows());
  refused(whole.substr(0, whole.size() - 9), "cut\\.csv\\.zst: .*truncated", "cut.csv.zst");
}

TEST_F(BadData, CompressedFilesGiveTheSameModel) {
  const std::string plain = accepted("plain.csv", kHeader + good_rows());
  EXPECT_EQ(accepted("packed.csv.gz", gzipped(kHeader + good_rows())), plain);
  EXPECT_EQ(accepted("packed.csv.zst", zstandard(kHeader + good_rows())), plain);
}

TEST_F(BadData, EmptyFile) {
  refused("", "bad\\.csv: .*empty");
}

TEST_F(BadData, HeaderWithoutRows) {
  refused(kHeader, "bad\\.csv: no usable row");
}

TEST_F(BadData, WhereThatLeavesNoRow) {
  refused(kHeader + good_rows(), "bad\\.csv: no usable row", "bad.csv", {"data.where=rating > 5"});
}

TEST_F(BadData, UnknownColumn) {
  refused(kHeader + good_rows(), "bad\\.csv: no column \"movie\".*movieId", "bad.csv",
          {"data.item=movie"});
}

TEST_F(BadData, Folder) {
  for (const std::string& folder : {work_.path(), std::string("."), std::string("..")}) {
    const Answer answer =
        Command({"train", folder, "--out", work_.path("run")}).cwd(work_.path()).run();
    expect_error(answer, ExitCode::io, "folder");
  }
  EXPECT_TRUE(work_.names().empty());
}

TEST_F(BadData, MissingFile) {
  expect_error(train(work_.path("nowhere.csv")), ExitCode::io, "nowhere\\.csv: .*No such file");
  expect_error(train(work_.path("no/where.csv.gz")), ExitCode::io, "no/where\\.csv\\.gz: ");
  EXPECT_TRUE(work_.names().empty());
}

TEST_F(BadData, EmptyName) {
  expect_error(train(""), ExitCode::usage, "empty");
}

TEST_F(BadData, MissingTestFile) {
  work_.write("ok.csv", kHeader + good_rows());
  expect_error(
      train(work_.path("ok.csv"), {"data.test=" + work_.path("gone.csv"), "split.method=file"}),
      ExitCode::io, "gone\\.csv");
  EXPECT_EQ(work_.names(), std::vector<std::string>{"ok.csv"});
}

TEST_F(BadData, FaultInTheTestFile) {
  work_.write("ok.csv", kHeader + good_rows());
  work_.write("test.csv", std::string(kHeader) + "1,2,4.0,1\n1,\xFF,4.0,1\n");
  expect_error(
      train(work_.path("ok.csv"), {"data.test=" + work_.path("test.csv"), "split.method=file"}),
      ExitCode::bad_data, "test\\.csv:3:3: ");
  EXPECT_EQ(work_.names(), (std::vector<std::string>{"ok.csv", "test.csv"}));
}

TEST_F(BadData, SideTableWithoutAnItem) {
  work_.write("ok.csv", kHeader + good_rows());
  work_.write("movies.csv", "movieId,title\n1,One\n");
  expect_error(train(work_.path("ok.csv"),
                     {"data.items=" + work_.path("movies.csv"), "data.items_key=movieId"}),
               ExitCode::bad_data, "movies\\.csv: no row for the item");
}

TEST_F(BadData, StandardInput) {
  work_.write("ok.csv", kHeader + good_rows());
  expect_good(work_.train(work_.path("ok.csv"), "file"));
  const std::vector<std::string> train{
      "train", "-", "--out", work_.path("pipe"), "-q", "train.epochs=3", "train.batch_size=256"};
  for (const std::string& bytes : {kHeader + good_rows(), gzipped(kHeader + good_rows())}) {
    expect_good(Command(train).input(bytes).run());
    EXPECT_EQ(work_.sha256("pipe/model.safetensors"), work_.sha256("file/model.safetensors"));
  }
  expect_error(Command(train).input("").run(), ExitCode::bad_data, "-: is empty");
  expect_error(Command(train).input(kHeader + good_rows() + "7,8,4.O,1\n").run(),
               ExitCode::bad_data, "-:" + kLast + ":5: ");
}

TEST_F(BadData, StandardInputCannotBeReadAgain) {
  work_.write("ok.csv", kHeader + good_rows());
  Command train(
      {"train", "-", "--out", work_.path("run"), "-q", "train.epochs=2", "train.early_stop=false"});
  expect_good(train.input(kHeader + good_rows()).run());
  const std::string before = work_.sha256("run/model.safetensors");
  expect_error(belfry_run({"resume", work_.path("run"), "train.epochs=4"}), ExitCode::usage,
               "standard input, which cannot be read again; .*data\\.interactions");
  expect_error(belfry_run({"train", work_.path("run/config.toml"), "--out", work_.path("again")}),
               ExitCode::bad_data, "-: is empty");
  EXPECT_EQ(work_.names(), (std::vector<std::string>{"ok.csv", "run"}));
  EXPECT_EQ(work_.sha256("run/model.safetensors"), before);
  // With the same bytes in a file it goes on; with other bytes it does not.
  expect_good(belfry_run({"resume", work_.path("run"), "-q", "train.epochs=4",
                          "data.interactions=" + work_.path("ok.csv")}));
  EXPECT_NE(work_.sha256("run/model.safetensors"), before);
  work_.write("other.csv", kHeader + good_rows() + "1,99,4.0,1\n");
  expect_error(belfry_run({"resume", work_.path("run"), "train.epochs=6",
                           "data.interactions=" + work_.path("other.csv")}),
               ExitCode::bad_model, "not the data");
}

}  // namespace
}  // namespace belfry::test
