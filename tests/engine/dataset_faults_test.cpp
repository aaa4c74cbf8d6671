// SPDX-License-Identifier: Apache-2.0
// What may be wrong with a row, a stream or a file, and where that is reported: FILE:LINE:COLUMN, COLUMN
// being the byte at which the field starts.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "tests/support/table_files.hpp"

namespace belfry::test {
namespace {

using Wanted = std::vector<ColumnRequest>;

const Wanted kRatings = {id("user"), id("item"), real("rating"), real("time")};
const char* const kHead = "user,item,rating,time\n";

/// Rows 2..41 of a file, all good.
std::string good_rows() {
  std::string out;
  for (int r = 0; r < 40; ++r) {
    out += std::to_string(r % 7 + 1) + "," + std::to_string(r + 1) + ",4.0,96498" +
           std::to_string(1000 + r) + "\n";
  }
  return out;
}

class DatasetFaults : public ::testing::Test {
 protected:
  /// A good file of 41 lines, then `row`: its fault, at line 42.
  Error after_good_rows(const std::string& row, const ReadOptions& options = {}) const {
    return files_.fault("bad.csv", kHead + good_rows() + row, kRatings, options);
  }
  void expect_bad(const std::string& row, const std::string& place, const std::string& what,
                  const ReadOptions& options = {}) const {
    const Error error = after_good_rows(row, options);
    EXPECT_EQ(error.code(), ExitCode::bad_data) << row;
    EXPECT_EQ(error.where(), "bad.csv:" + place) << row;
    EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
  }
  TableFiles files_;
};

TEST_F(DatasetFaults, NumbersMatchInFull) {
  expect_bad("7,8,4.O,964982703\n", "42:5", "\"4.O\" is not a number (column rating)");
  expect_bad("7,8,nan,1\n", "42:5", "\"nan\" is not a finite number");
  expect_bad("7,8,inf,1\n", "42:5", "\"inf\" is not a finite number");
  expect_bad("7,8,-inf,1\n", "42:5", "not a finite number");
  expect_bad("7,8,1e999,1\n", "42:5", "\"1e999\" is not a finite number");
  for (const char* text : {"5 ", " 5", "+5", "0x1f", "\"4,5\"", "", "-", ".", "1e", "--1", "1_000",
                           "5\t", "٥", "4.0.0", "1.5f"}) {
    expect_bad(std::string("7,8,") + text + ",1\n", "42:5", "is not a number");
  }
  expect_bad("700,80,4.0,x\n", "42:12", "\"x\" is not a number (column time)");
}

TEST_F(DatasetFaults, OddButGoodNumbers) {
  const Table table =
      files_.read("odd.csv",
                  "user,item,rating\na,b,-4.5\na,b,1e3\na,b,.5\na,b,5.\na,b,007\na,b,"
                  "123456789012345678901234567890\na,b,0.1\na,b,-0\n",
                  {real("rating")});
  EXPECT_EQ(table.columns[0].reals,
            (std::vector<double>{-4.5, 1000, 0.5, 5, 7, 1.2345678901234568e29, 0.1, 0}));
}

TEST_F(DatasetFaults, ColumnCount) {
  expect_bad("7,8\n", "42:4", "2 columns where the header has 4");
  expect_bad("7,8,4,1,9\n", "42:9", "5 columns where the header has 4");
  expect_bad("7,8,4,1,\n", "42:9", "5 columns");
  expect_bad("7\n", "42:2", "1 column where");
  expect_bad("   \n", "42:4", "1 column where");
  const Error error = files_.fault("bare.csv", "1,2,3\n4,5,3\n6,7\n", {id("column_1")});
  EXPECT_EQ(error.where(), "bare.csv:3:4");
}

TEST_F(DatasetFaults, TheFirstBadRowIsReported) {
  const std::string tail = good_rows();
  expect_bad("7,8,4,x\n7,8,y,1\n" + tail, "42:7", "\"x\"");
  expect_bad("7,8,y,x\n" + tail, "42:5", "\"y\"");
  expect_bad("7,8,y,1\n7,8\n", "42:5", "\"y\"");  // a fault of syntax behind it waits
  expect_bad("7,8\n7,8,y,1\n", "42:4", "2 columns");
  expect_bad(",8,y,1\n", "42:1", "an empty id (column user)");
  // in the order of the file, whatever order the columns are asked for
  EXPECT_EQ(files_.fault("r.csv", "a,b\n1,2\n1,3\nx,y\n", {real("b"), real("a")}).where(),
            "r.csv:4:1");
}

TEST_F(DatasetFaults, Ids) {
  expect_bad(",8,4,1\n", "42:1", "an empty id (column user)");
  expect_bad("7,\"\",4,1\n", "42:3", "an empty id (column item)");
  expect_bad(std::string("7,8\0,4,1\n", 9), "42:3", "\"8\\x00\" holds a control character");
  expect_bad("7,a\tb,4,1\n", "42:3", "control character");
  expect_bad("7,\"a\nb\",4,1\n", "42:3", "control character");
  expect_bad("7,a\x7f,4,1\n", "42:3", "control character");
  expect_bad("7,a\xc2\x85,4,1\n", "42:3", "control character");
  for (const char* text : {"\xff", "caf\xe9", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                           "\xe2\x82", "\x80", "\xf0\x8f\xbf\xbf", "12345678\xc3"}) {
    expect_bad(std::string("7,") + text + ",4,1\n", "42:3", "is not valid UTF-8");
  }
}

TEST_F(DatasetFaults, IntegerIds) {
  ReadOptions integers;
  integers.id_type = IdType::integer;
  expect_bad("7,4.0,4,1\n", "42:3", "\"4.0\" is not an integer (column item)", integers);
  expect_bad("7,+5,4,1\n", "42:3", "is not an integer", integers);
  expect_bad("7, 5,4,1\n", "42:3", "is not an integer", integers);
  expect_bad("x7,5,4,1\n", "42:1", "is not an integer", integers);
  expect_bad(",5,4,1\n", "42:1", "an empty id", integers);
  expect_bad("7,9223372036854775808,4,1\n", "42:3", "does not fit a 64-bit integer", integers);
  expect_bad("7,-9223372036854775809,4,1\n", "42:3", "does not fit a 64-bit integer", integers);
  const Table table = files_.read("ids.csv",
                                  "user,item\n007,1\n7,1\n-0,1\n0,1\n-9223372036854775808,1\n"
                                  "9223372036854775807,01234567\n",
                                  {id("user"), id("item")}, integers);
  EXPECT_EQ(values(table.columns[0]),
            (std::vector<std::string>{"7", "7", "0", "0", "-9223372036854775808",
                                      "9223372036854775807"}));
  EXPECT_EQ(table.columns[1].dictionary->text(1), "1234567");
  const Error error =
      files_.fault("int.csv", "user,n\n1,2\n1,9223372036854775808\n", {integer("n")});
  EXPECT_EQ(error.where(), "int.csv:3:3");
}

TEST_F(DatasetFaults, LineEnds) {
  const std::string plain = kHead + good_rows();
  std::string crlf;
  for (const char c : plain) crlf += c == '\n' ? "\r\n" : std::string(1, c);
  const auto users = values(files_.read("a.csv", plain, kRatings).columns[0]);
  ASSERT_EQ(users.size(), 40u);
  for (const std::string& bytes :
       {crlf, "\xef\xbb\xbf" + plain, "\xef\xbb\xbf" + crlf, plain.substr(0, plain.size() - 1),
        crlf.substr(0, crlf.size() - 1), crlf.substr(0, crlf.size() - 2)}) {
    const Table table = files_.read("b.csv", bytes, kRatings);
    EXPECT_EQ(values(table.columns[0]), users);
    EXPECT_EQ(table.columns[3].reals.back(), 964981039);
  }
  expect_bad("7,8\r,4,1\n", "42:4", "a carriage return inside the line");
  expect_bad("7,8,4,1\r7,8,4,1\n", "42:8", "a carriage return");
  expect_bad("7,8,4,1\r\r\n", "42:8", "a carriage return");
  std::string mac = plain;
  std::replace(mac.begin(), mac.end(), '\n', '\r');
  EXPECT_EQ(files_.fault("mac.csv", mac, {}).code(), ExitCode::bad_data);
}

TEST_F(DatasetFaults, BlankLinesAreSkippedAndCounted) {
  const Table table =
      files_.read("blank.csv", "user,item\n\n1,2\n\r\n\n3,4\n\n\n", {id("user"), id("item")});
  EXPECT_EQ(table.rows, 2);
  EXPECT_EQ(table.blank_lines, 5);
  const Error error = files_.fault("b.csv", "user,n\n\n1,2\n\r\n\n3,x\n1,1\n3,3\n", {real("n")});
  EXPECT_EQ(error.where(), "b.csv:6:3");
}

TEST_F(DatasetFaults, Quotes) {
  const Table table = files_.read("q.csv",
                                  "user,title,n\n"
                                  "1,\"a, b\",1\n"
                                  "\"2\",\"say \"\"hi\"\"\",2\n"
                                  "3,\"two\r\nlines\",\"3\"\r\n"
                                  "4,5\" disk,4\n"
                                  "5,\"\",5\n"
                                  "6,\"\"\"\",\"6\"",
                                  {id("user"), text("title"), real("n")});
  EXPECT_EQ(values(table.columns[0]), (std::vector<std::string>{"1", "2", "3", "4", "5", "6"}));
  EXPECT_EQ(values(table.columns[1]),
            (std::vector<std::string>{"a, b", "say \"hi\"", "two\r\nlines", "5\" disk", "", "\""}));
  EXPECT_EQ(table.columns[2].reals, (std::vector<double>{1, 2, 3, 4, 5, 6}));
}

TEST_F(DatasetFaults, QuotesKeepPlacesExact) {
  const Wanted wanted = {id("user"), text("title"), real("n")};
  const std::string start = "user,title,n\n1,\"a\n\nb\",1\n1,\"\"\"\"\"\",2\n";  // lines 1..5
  EXPECT_EQ(files_.fault("q.csv", start + "3,c,x\n1,b,1\n2,b,2\n", wanted).where(), "q.csv:6:5");
  // behind a quoted line feed the place is on the field's own line
  EXPECT_EQ(files_.fault("q.csv", start + "3,\"c\n\"\"d\",\"x\"\n1,b,1\n", wanted).where(),
            "q.csv:7:6");
  const Error open = files_.fault("q.csv", start + "3,\"c,4\n5,d,6\n", wanted);
  EXPECT_EQ(open.where(), "q.csv:6:3");
  EXPECT_NE(std::string(open.what()).find("never closed"), std::string::npos);
  const Error behind = files_.fault("q.csv", start + "3,\"c\"d,4\n", wanted);
  EXPECT_EQ(behind.where(), "q.csv:6:6");
  EXPECT_NE(std::string(behind.what()).find("behind a closing quote"), std::string::npos);
  EXPECT_EQ(files_.fault("q.csv", start + "3,\"c\",4,\"d\"\n", wanted).where(), "q.csv:6:9");
}

TEST_F(DatasetFaults, LongFieldsAndLines) {
  const std::string most(64 << 10, 'x'), more(65537, 'x');
  EXPECT_EQ(files_.read("most.csv", kHead + ("7," + most + ",4,1\n"), kRatings).rows, 1);
  EXPECT_EQ(files_.read("most.csv", kHead + ("7,\"" + most + "\",4,1\n"), kRatings).rows, 1);
  expect_bad("7," + more + ",4,1\n", "42:3", "a field of more than 64 KiB");
  expect_bad("7,\"" + more + "\",4,1\n", "42:3", "a field of more than 64 KiB");
  expect_bad("7,\"" + std::string(200'000, 'x'), "42:3", "a field of more than 64 KiB");
  // a column that nobody asked for is held to it too
  EXPECT_EQ(
      files_.fault("other.csv", "user,item,note\n1,2,a\n1,2," + more + "\n", {id("user")}).where(),
      "other.csv:3:5");
  std::string line = "7";
  for (int i = 0; i < 30; ++i) line += "," + std::string(40'000, 'y');
  expect_bad(line + "\n", "42:1", "a line of more than 1 MiB");
}

TEST_F(DatasetFaults, MemoryStaysFlatOnAnEndlessLine) {
  const std::string path = files_.path("endless.csv");
  {
    std::ofstream out(path, std::ios::binary);
    out << kHead << "1,2,3,4\n7,";
    const std::string piece(1 << 20, 'z');
    for (int i = 0; i < 64; ++i) out << piece;
  }
  struct rusage before {
  }, after{};
  getrusage(RUSAGE_SELF, &before);
  const Error error = error_of([&] { read_table({path}, kRatings, {}); });
  getrusage(RUSAGE_SELF, &after);
  EXPECT_EQ(error.where(), path + ":3:1");
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 16 << 10);  // KiB
}

TEST_F(DatasetFaults, GzipStreams) {
  const std::string plain = kHead + good_rows(), zipped = gzipped(plain);
  EXPECT_EQ(files_.read("a.csv.gz", zipped, kRatings).rows, 40);
  EXPECT_EQ(files_.read("named-otherwise.csv", zipped, kRatings).rows, 40);
  EXPECT_EQ(
      files_.read("two.csv.gz", gzipped(kHead) + gzipped("") + gzipped(good_rows()), kRatings).rows,
      40);
  std::string flipped = zipped;
  flipped[flipped.size() - 6] ^= 1;  // of the checksum
  for (const auto& [bytes, what] :
       {std::pair{zipped.substr(0, zipped.size() - 9), "truncated"},
        std::pair{zipped.substr(0, zipped.size() - 1), "truncated"},
        std::pair{zipped.substr(0, 12), "truncated"}, std::pair{flipped, "incorrect data check"},
        std::pair{zipped + "junk", "other data behind"},
        std::pair{zipped + std::string(512, '\0'), "other data behind"},
        std::pair{plain, "does not hold gzip data"}, std::pair{std::string(), "gzip"}}) {
    const Error error = files_.fault("bad.csv.gz", bytes, kRatings);
    EXPECT_EQ(error.code(), ExitCode::bad_data) << what;
    EXPECT_EQ(error.where(), "bad.csv.gz");
    EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
  }
}

TEST_F(DatasetFaults, GzipCutAnywhere) {
  const std::string zipped = gzipped(kHead + good_rows());
  for (std::size_t n = 0; n < zipped.size(); ++n) {
    EXPECT_EQ(files_.fault("cut.csv.gz", zipped.substr(0, n), kRatings).code(), ExitCode::bad_data)
        << n;
  }
}

TEST_F(DatasetFaults, ZstandardStreams) {
  const std::string packed = zstandard(kHead + good_rows());
  EXPECT_EQ(files_.read("a.csv.zst", packed, kRatings).rows, 40);
  EXPECT_EQ(files_.read("b.csv.zst", zstandard(kHead) + zstandard(good_rows()), kRatings).rows, 40);
  for (std::size_t n = 0; n < packed.size(); ++n) {
    EXPECT_EQ(files_.fault("cut.csv.zst", packed.substr(0, n), kRatings).code(), ExitCode::bad_data)
        << n;
  }
  EXPECT_EQ(files_.fault("junk.csv.zst", packed + "junk", kRatings).code(), ExitCode::bad_data);
}

TEST_F(DatasetFaults, FilesWithoutRows) {
  for (const char* bytes : {"", "\n\n", "\xef\xbb\xbf", " ", kHead, "user,item,rating,time"}) {
    const Error error = files_.fault("none.csv", bytes, kRatings);
    EXPECT_EQ(error.code(), ExitCode::bad_data) << bytes;
    EXPECT_EQ(error.where(), "none.csv");
    EXPECT_NE(std::string(error.what()).find("no usable row"), std::string::npos) << error.what();
  }
}

TEST_F(DatasetFaults, FilesThatCannotBeRead) {
  const Error missing = error_of([&] { read_table({files_.path("no.csv")}, kRatings, {}); });
  EXPECT_EQ(missing.code(), ExitCode::io);
  EXPECT_EQ(missing.where(), files_.path("no.csv"));
  EXPECT_NE(std::string(missing.what()).find("No such file"), std::string::npos);
  const Error folder = error_of([&] { sniff(files_.path()); });
  EXPECT_EQ(folder.code(), ExitCode::io);
  EXPECT_NE(std::string(folder.what()).find("is a folder"), std::string::npos);
  EXPECT_EQ(error_of([&] { read_table({}, kRatings, {}); }).code(), ExitCode::usage);
}

TEST_F(DatasetFaults, OtherKindsOfFile) {
  for (const std::string bytes : {"PAR1....", "PK\x03\x04....", "SQLite format 3....",
                                  "\xff\xfeu\1,\1", "[{\"user\": 1}]\n", "one\ntwo\nthree\n"}) {
    EXPECT_EQ(files_.fault("x.bin", bytes, kRatings).code(), ExitCode::bad_data) << bytes;
  }
}

TEST_F(DatasetFaults, APipeCanBeSniffedAndThenReadOnce) {
  const std::string path = files_.path("pipe");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::string rows = kHead;
  for (int i = 0; i < 5000; ++i) rows += good_rows();
  std::thread writer([&] { spill(path, rows); });
  const Table table = read_table({path}, kRatings, {});
  writer.join();
  EXPECT_EQ(table.rows, 200'000);
}

TEST_F(DatasetFaults, JsonLines) {
  const Wanted wanted = {id("user"), real("n")};
  const std::string good = "{\"user\":\"a\",\"n\":1}\n";
  const auto expect = [&](const std::string& line, const std::string& place,
                          const std::string& what) {
    const Error error = files_.fault("r.jsonl", good + "\n" + good + line + good, wanted);
    EXPECT_EQ(error.code(), ExitCode::bad_data) << line;
    EXPECT_EQ(error.where(), "r.jsonl:" + place) << line;
    EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
  };
  expect("{\"user\":\"a\", \"n\": \"x\"}\n", "4:19", "\"x\" is not a number (column n)");
  expect("{\"x\":{\"n\":1}, \"n\": [1], \"user\":\"a\"}\n", "4:20", "a list or an object");
  expect("{\"user\":\"a\"}\n", "4:1", "no value (column n)");
  expect("{\"user\":null,\"n\":1}\n", "4:9", "no value (column user)");
  expect("{\"user\":\"\",\"n\":1}\n", "4:9", "an empty id");
  expect("{\"user\":\"a\\n\",\"n\":1}\n", "4:9", "control character");
  expect("{\"user\":\"a\",\"n\":1e999}\n", "4:21", "is not valid JSON");
  expect("{\"user\":\"a\",\"n\":NaN}\n", "4:17", "is not valid JSON");
  expect("{\"user\":\"a\",\"n\":1}{\n", "4:19", "is not valid JSON");
  expect("{\"user\":\"a\xff\",\"n\":1}\n", "4:11", "is not valid JSON");
  expect("{\"user\":\"a\",\"user\":\"b\",\"n\":1}\n", "4:1", "comes twice");
  expect("[1]\n", "4:1", "is not a JSON object");
  expect("7\n", "4:1", "is not a JSON object");
  expect("null\n", "4:1", "is not a JSON object");
  expect("{\"user\":\"" + std::string(65537, 'u') + "\",\"n\":1}\n", "4:9", "more than 64 KiB");
  expect("{\"user\":\"a\",\"x\":\"" + std::string(2 << 20, 'u') + "\",\"n\":1}\n", "4:1",
         "more than 1 MiB");
  for (const char* bytes : {"{}\n{}\n", "{\"user\":\"a\n", "{"}) {
    EXPECT_EQ(files_.fault("r.jsonl", bytes, wanted).where(), "r.jsonl") << bytes;
  }
  expect(std::string(500'000, '[') + "\n", "4:1", "is not a JSON object");
}

TEST_F(DatasetFaults, AdjacencyLists) {
  const Wanted wanted = {id("user"), id("item")};
  const std::string good = "0 1 2 3\n1 4\n";
  const auto place = [&](const std::string& line) {
    return files_.fault("a.txt", good + line + good, wanted).where();
  };
  EXPECT_EQ(place("2 x 3\n"), "a.txt:3:3");
  EXPECT_EQ(place("x\n"), "a.txt:3:1");
  EXPECT_EQ(place("2  3 4.0\n"), "a.txt:3:6");
  EXPECT_EQ(place("2 3 9223372036854775808\n"), "a.txt:3:5");
  EXPECT_EQ(place("2 3\r4\n"), "a.txt:3:4");
  EXPECT_EQ(place("2 3,4\n"), "a.txt:3:3");
  EXPECT_EQ(place(std::string(70'000, '1') + " 5\n"), "a.txt:3:1");
}

}  // namespace
}  // namespace belfry::test
