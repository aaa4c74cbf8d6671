// SPDX-License-Identifier: Apache-2.0
// Any bytes as a data file: a table or a belfry::Error, never anything else. Not part of the build:
//   clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -I. tests/fuzz/dataset_fuzz.cpp
//     engine/{byte_source,column_roles,dataset,dataset_schema,dictionary,field_scan,field_text,
//     row_filter,row_reader,row_reader_json}.cpp -lz -lzstd -lxxhash -lhwy -o dataset_fuzz
//   ./dataset_fuzz -max_len=65536 CORPUS
// With -DBELFRY_FUZZ_MAIN and no fuzzer it runs the files named on the command line.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "engine/dataset.hpp"
#include "engine/error.hpp"

namespace {

/// All columns of the file as ids, texts or numbers, by `choice`; twice, which must agree.
void read_everything(const std::string& path, std::uint8_t choice) {
  static const char* const kFormats[] = {"auto",    "csv",       "tsv",   "movielens-100k",
                                         "recbole", "adjacency", "jsonl", "movielens-1m"};
  belfry::ReadOptions options;
  options.format = kFormats[choice % 8];
  options.id_type = (choice & 8) != 0 ? belfry::IdType::integer : belfry::IdType::text;
  const belfry::Schema schema = belfry::sniff(path, options.format);
  const belfry::Roles roles = belfry::guess_roles(schema);
  std::vector<belfry::ColumnRequest> wanted;
  if (!roles.user.empty()) wanted.push_back({roles.user, belfry::ColumnType::text, true});
  if (!roles.item.empty()) wanted.push_back({roles.item, belfry::ColumnType::text, true});
  if (!roles.weight.empty()) wanted.push_back({roles.weight, belfry::ColumnType::real, false});
  for (std::size_t c = 0; (choice & 16) != 0 && c < schema.columns.size(); ++c) {
    wanted.push_back({schema.columns[c], schema.types[c], false});
  }
  if ((choice & 32) != 0 && !roles.weight.empty()) options.where = roles.weight + " >= 3";
  const belfry::Table one = belfry::read_table({path}, wanted, options);
  const belfry::Table two = belfry::read_table({path}, wanted, options);
  if (one.rows <= 0 || one.rows != two.rows) std::abort();
  for (std::size_t c = 0; c < one.columns.size(); ++c) {
    if (one.columns[c].size() != static_cast<std::size_t>(one.rows)) std::abort();
    if (one.columns[c].codes != two.columns[c].codes) std::abort();
    for (const std::uint32_t code : one.columns[c].codes) one.columns[c].dictionary->text(code);
  }
}

}  // namespace

/// The first byte chooses the format and the options, the rest is the file.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const std::string path = "/tmp/belfry-dataset-fuzz-" + std::to_string(::getpid());
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data + 1), static_cast<std::streamsize>(size - 1));
  try {
    read_everything(path, data[0]);
  } catch (const belfry::Error& error) {
    if (error.code() != belfry::ExitCode::bad_data && error.code() != belfry::ExitCode::usage) {
      std::abort();
    }
  }
  return 0;
}

#ifdef BELFRY_FUZZ_MAIN
int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::ifstream in(argv[i], std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
  return 0;
}
#endif
