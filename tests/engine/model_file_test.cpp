// SPDX-License-Identifier: Apache-2.0
// A model that is read again is the model that was written; a file that is not whole in itself is refused,
// also where its checksum holds.
#include "engine/model_file.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/recommender.hpp"
#include "tests/support/compare.hpp"
#include "tests/support/trained_model.hpp"

namespace belfry::test {
namespace {

using Json = nlohmann::json;
using Int32s = std::vector<std::int32_t>;

TEST(ModelFile, RoundTrip) {
  const Context ctx = make_context(2);
  const TrainedModel m(ctx);
  const ModelData &a = m.loaded.data, &b = m.model->data;
  EXPECT_EQ(b.users.all_tokens(), a.users.all_tokens());
  EXPECT_EQ(b.items.all_tokens(), a.items.all_tokens());
  EXPECT_EQ(b.item_counts, a.item_counts);
  EXPECT_EQ(b.last_context, a.last_context);
  EXPECT_EQ(m.model->seen.offsets, m.seen.offsets);
  EXPECT_EQ(m.model->seen.items, m.seen.items);
  EXPECT_EQ(b.train.size(), 0);
  ASSERT_EQ(b.features.size(), a.features.size());
  for (std::size_t f = 0; f < a.features.size(); ++f) {
    EXPECT_EQ(b.features[f].values, a.features[f].values);
    EXPECT_EQ(b.features[f].table, a.features[f].table);
    EXPECT_EQ(b.features[f].context, a.features[f].context);
    EXPECT_EQ(b.features[f].config, a.features[f].config);
  }
  for (std::size_t t = 0; t < a.tables.size(); ++t) {
    EXPECT_EQ(b.tables[t].name, a.tables[t].name);
    EXPECT_EQ(b.tables[t].vocabulary.all_tokens(), a.tables[t].vocabulary.all_tokens());
    EXPECT_EQ(b.tables[t].vocabulary.rows(), a.tables[t].vocabulary.rows());
  }
  // The towers give the vectors that lie in the file.
  const auto index = build_index(ctx, *m.model->model, b);
  std::vector<float> v(static_cast<std::size_t>(index->dim()));
  for (std::int64_t i = 0; i < index->size(); ++i) {
    index->read_rows(ctx, i, {v.data(), 1, index->dim()});
    expect_equal_bits(v, m.item(i), "item vector");
  }
  // Written again, it is the same file.
  write_model_file(ctx, m.folder.path("again"), m.model->config, b, m.model->seen, *m.model->model,
                   m.model->index.get());
  EXPECT_EQ(slurp(m.folder.path("again")), slurp(m.path()));
}

TEST(ModelFile, TitlesJoinedByIntegerKeys) {
  const Context ctx = make_context(1);
  const ModelFolder folder;
  folder.write("r.csv", "user,movie_id\n7,1\n07,2\n8,3\n");
  folder.write("m.csv",
               "movie_id,title,genre\n1,Alien,x\n2,\"Heat, The\",y\n3,Alien,x\n4,Dune,z\n");
  const Loaded l = folder.load(
      "[data]\ninteractions = \"r.csv\"\nitems = \"m.csv\"\nitem = \"title\"\nid_type = \"int\"\n"
      "[[feature]]\nname = \"title\"\nof = \"candidate\"\nkind = \"id\"\ndim = 32\n"
      "[[feature]]\nname = \"genre\"\nof = \"candidate\"\nkind = \"category\"\ndim = 32\n");
  TowerNetworks towers(ctx, l.config, l.data, 4, 4, false);
  towers.commit(ctx);
  towers.registry().initialise(ctx, 3);
  const auto index = build_index(ctx, towers, l.data);
  const ItemLists seen = items_by_user(2, l.data.item_count(), {&l.data.train});
  write_model_file(ctx, folder.path("model"), l.config, l.data, seen, towers, index.get());
  const auto m = load_model_file(ctx, folder.path("model"));
  EXPECT_EQ(m->data.users.token_index("007"), m->data.users.token_index("7"));
  EXPECT_TRUE(m->data.items.token_index("Heat, The").has_value());
  EXPECT_EQ(slurp(folder.path("model")).find(folder.root().string()), std::string::npos);
}

TEST(ModelFile, TheTestPart) {
  const Context ctx = make_context(1);
  const TrainedModel m(ctx);
  write_test_file(m.folder.path("test"), m.loaded.data);
  const Interactions t = load_test_part(m.folder.path("test"), m.model->data);
  EXPECT_EQ(t.user, m.loaded.data.test.user);
  EXPECT_EQ(t.item, m.loaded.data.test.item);
  EXPECT_EQ(t.context, m.loaded.data.test.context);
  const auto refused = [&](const Int32s& user, const Int32s& item, const Int32s& context) {
    SafetensorsWriter w;
    const auto add = [&](const char* name, const Int32s& v) {
      w.add(name, DType::i32, {static_cast<std::int64_t>(v.size())}, v.data());
    };
    add("user", user);
    add("item", item);
    add("context.0.rows", context);
    const Int32s hours(user.size());
    add("context.1.rows", hours);
    OutputFile out(m.folder.path("bad"));
    w.write(out);
    out.commit();
    try {
      load_test_part(m.folder.path("bad"), m.model->data);
      return ExitCode::ok;
    } catch (const Error& e) {
      return e.code();
    }
  };
  EXPECT_EQ(refused({0, 1}, {0, 0}, {0, 0}), ExitCode::ok);
  EXPECT_EQ(refused({0, 1}, {0}, {0, 0}), ExitCode::bad_model);
  EXPECT_EQ(refused({0, -1}, {0, 0}, {0, 0}), ExitCode::bad_model);
  EXPECT_EQ(refused({0, 1}, {0, -5}, {0, 0}), ExitCode::bad_model);
  EXPECT_EQ(refused({0, 1}, {0, 0}, {0}), ExitCode::bad_model);
  EXPECT_EQ(refused({0, 1}, {0, 0}, {0, 99}), ExitCode::bad_model);
  EXPECT_EQ(error_of([&] { load_test_part(m.path(), m.model->data); }).code(), ExitCode::bad_model);
}

/// A model file taken apart, to be put together wrongly. What save() writes has a right checksum.
struct Parts {
  struct Part {
    std::string name;
    DType dtype;
    std::vector<std::int64_t> shape;
    std::string bytes;
  };
  explicit Parts(const std::string& path) {
    const SafetensorsFile file(path);
    metadata = file.metadata();
    metadata.erase("belfry.xxh3_128");
    for (const TensorInfo& t : file.tensors()) {
      Part p{t.name, t.dtype, t.shape, std::string(t.end - t.begin, '\0')};
      file.read(t, 0, t.elements(), p.bytes.data());
      parts.push_back(std::move(p));
    }
  }
  void save(const std::string& path) const {
    SafetensorsWriter w;
    for (const auto& [key, value] : metadata) w.metadata(key, value);
    for (const Part& p : parts) w.add(p.name, p.dtype, p.shape, p.bytes.data());
    OutputFile out(path);
    w.write(out);
    out.commit();
  }
  Part& at(const std::string& name) {
    for (Part& p : parts) {
      if (p.name == name) return p;
    }
    throw std::runtime_error("no part " + name);
  }
  template <class T>
  T get(const std::string& name, std::int64_t i) {
    T value;
    std::memcpy(&value, at(name).bytes.data() + i * static_cast<std::int64_t>(sizeof(T)),
                sizeof(T));
    return value;
  }
  template <class T>
  void set(const std::string& name, std::int64_t i, T value) {
    std::memcpy(at(name).bytes.data() + i * static_cast<std::int64_t>(sizeof(T)), &value,
                sizeof(T));
  }
  /// Drops the last elements of a vector, or rows of a matrix.
  void cut(const std::string& name, std::int64_t rows) {
    Part& p = at(name);
    const std::size_t row = p.bytes.size() / static_cast<std::size_t>(p.shape[0]);
    p.shape[0] -= rows;
    p.bytes.resize(row * static_cast<std::size_t>(p.shape[0]));
  }
  Json layout() const { return Json::parse(metadata.at("belfry.layout")); }
  void layout(const Json& json) { metadata["belfry.layout"] = json.dump(); }
  void replace(const std::string& from, const std::string& to) {
    std::string& config = metadata["belfry.config"];
    const std::size_t at = config.find(from);
    if (at == std::string::npos) throw std::runtime_error(from + " is not in\n" + config);
    config.replace(at, from.size(), to);
  }
  std::map<std::string, std::string> metadata;
  std::vector<Part> parts;
};

class HostileModelTest : public testing::Test {
 protected:
  HostileModelTest() : ctx(backend_under_test(), 1), m(ctx) {}
  /// Applies `change` to the parts of a good model; the result must be refused as a bad model.
  template <class F>
  void refused(const std::string& what, F&& change) {
    SCOPED_TRACE(what);
    Parts parts(m.path());
    change(parts);
    const std::string path = m.folder.path("hostile");
    parts.save(path);
    const Error e = error_of([&] { load_model_file(ctx, path); });
    EXPECT_EQ(e.code(), ExitCode::bad_model) << e.what();
    EXPECT_EQ(e.where(), path) << e.what();
  }
  Context ctx;
  TrainedModel m;
};

TEST_F(HostileModelTest, PutTogetherRightlyItIsAccepted) {
  Parts(m.path()).save(m.folder.path("same"));
  EXPECT_EQ(slurp(m.folder.path("same")), slurp(m.path()));
  EXPECT_NE(load_model_file(ctx, m.folder.path("same")), nullptr);
}

TEST_F(HostileModelTest, MissingTensors) {
  for (const auto& part : Parts(m.path()).parts) {
    refused(part.name, [&](Parts& p) {
      std::erase_if(p.parts, [&](const Parts::Part& x) { return x.name == part.name; });
    });
  }
}

TEST_F(HostileModelTest, TensorsOfAnotherShapeOrType) {
  for (const auto& part : Parts(m.path()).parts) {
    refused(part.name + " cut", [&](Parts& p) { p.cut(part.name, 1); });
    refused(part.name + " flat", [&](Parts& p) { p.at(part.name).shape.push_back(1); });
    refused(part.name + " type", [&](Parts& p) {
      const DType was = part.dtype;
      p.at(part.name).dtype = was == DType::f32   ? DType::i32
                              : was == DType::i32 ? DType::f32
                              : was == DType::i64 ? DType::f64
                                                  : DType::i8;
    });
  }
}

TEST_F(HostileModelTest, OffsetsThatLie) {
  for (const char* name : {"users.offsets", "items.offsets", "seen.offsets"}) {
    const std::int64_t n = Parts(m.path()).at(name).shape[0];
    refused(std::string(name) + " start", [&](Parts& p) { p.set<std::int64_t>(name, 0, 1); });
    refused(std::string(name) + " end", [&](Parts& p) {
      p.set<std::int64_t>(name, n - 1, p.get<std::int64_t>(name, n - 1) + 1);
    });
    refused(std::string(name) + " fall",
            [&](Parts& p) { p.set<std::int64_t>(name, 2, p.get<std::int64_t>(name, 1) - 1); });
    refused(std::string(name) + " beyond",
            [&](Parts& p) { p.set<std::int64_t>(name, 1, std::int64_t{1} << 40); });
    refused(std::string(name) + " negative", [&](Parts& p) { p.set<std::int64_t>(name, 1, -8); });
  }
}

TEST_F(HostileModelTest, RowsOutOfRange) {
  for (const char* name :
       {"feature.0.rows", "feature.1.rows", "feature.2.rows", "feature.3.rows", "seen.items"}) {
    for (const std::int32_t row : {-1, 1000, INT32_MAX, INT32_MIN}) {
      refused(name, [&](Parts& p) { p.set<std::int32_t>(name, 1, row); });
    }
  }
  refused("seen items out of order", [&](Parts& p) {
    std::int64_t u = 0;  // a user with two items at least
    while (p.get<std::int64_t>("seen.offsets", u + 1) - p.get<std::int64_t>("seen.offsets", u) < 2)
      ++u;
    const auto first = p.get<std::int64_t>("seen.offsets", u);
    const auto a = p.get<std::int32_t>("seen.items", first);
    p.set("seen.items", first, p.get<std::int32_t>("seen.items", first + 1));
    p.set("seen.items", first + 1, a);
  });
  refused("a seen item twice", [&](Parts& p) {
    std::int64_t u = 0;
    while (p.get<std::int64_t>("seen.offsets", u + 1) - p.get<std::int64_t>("seen.offsets", u) < 2)
      ++u;
    const auto first = p.get<std::int64_t>("seen.offsets", u);
    p.set("seen.items", first + 1, p.get<std::int32_t>("seen.items", first));
  });
}

TEST_F(HostileModelTest, VocabulariesThatContradictThemselves) {
  refused("a token twice", [&](Parts& p) {
    Parts::Part& bytes = p.at("users.bytes");
    const auto a = p.get<std::int64_t>("users.offsets", 1),
               b = p.get<std::int64_t>("users.offsets", 2);
    p.set<std::int64_t>("users.offsets", 1, b / 2);
    (void)a;
    for (std::int64_t i = 0; i < b / 2; ++i) {
      bytes.bytes[static_cast<std::size_t>(b / 2 + i)] = bytes.bytes[static_cast<std::size_t>(i)];
    }
    if (b % 2 != 0) p.set<std::int64_t>("users.offsets", 2, b - 1);
  });
  refused("integers", [&](Parts& p) {
    Json l = p.layout();
    l["users"]["integer"] = true;
    p.layout(l);
  });
}

TEST_F(HostileModelTest, LayoutsThatLie) {
  const auto change = [&](const std::string& what, const std::function<void(Json&)>& f) {
    refused(what, [&](Parts& p) {
      Json l = p.layout();
      f(l);
      p.layout(l);
    });
  };
  refused("no JSON", [](Parts& p) { p.metadata["belfry.layout"] = "{"; });
  refused("a list", [](Parts& p) { p.metadata["belfry.layout"] = "[]"; });
  refused("none", [](Parts& p) { p.metadata.erase("belfry.layout"); });
  for (const char* key : {"users", "items", "tables", "features"}) {
    change(key, [&](Json& l) { l.erase(key); });
    change(key, [&](Json& l) { l[key] = 7; });
    change(key, [&](Json& l) { l[key] = Json::array(); });
  }
  for (const Json& bad : {Json(-1), Json(3), Json(1e18), Json("x"), Json()}) {
    change("table " + bad.dump(), [&](Json& l) { l["features"][0]["table"] = bad; });
  }
  for (const Json& bad : {Json(0), Json(-4), Json(7), Json(1 << 30), Json("x")}) {
    change("dim " + bad.dump(), [&](Json& l) { l["tables"][0]["dim"] = bad; });
  }
  for (const Json& bad :
       {Json(-1), Json(2), Json(std::int64_t{1} << 40), Json(INT64_MAX), Json("x")}) {
    change("oov " + bad.dump(), [&](Json& l) { l["tables"][1]["oov"] = bad; });
    change("oov of ids " + bad.dump(), [&](Json& l) { l["tables"][0]["oov"] = bad; });
  }
  change("same_as", [](Json& l) { l["tables"][0]["same_as"] = "items"; });
  change("same_as", [](Json& l) { l["tables"][0]["same_as"] = "nothing"; });
  change("same_as", [](Json& l) { l["tables"][0]["same_as"] = 3; });
  change("two tables of one name",
         [](Json& l) { l["tables"][1]["name"] = l["tables"][0]["name"]; });
  change("context of an item", [](Json& l) { l["features"][2]["context"] = true; });
  change("the context is the user's", [](Json& l) { l["features"].push_back(l["features"][0]); });
  change("tables swapped",
         [](Json& l) { std::swap(l["features"][0]["table"], l["features"][2]["table"]); });
}

TEST_F(HostileModelTest, ConfigsThatLie) {
  refused("none", [](Parts& p) { p.metadata.erase("belfry.config"); });
  refused("no TOML", [](Parts& p) { p.metadata["belfry.config"] = "= ="; });
  refused("unknown key", [](Parts& p) { p.metadata["belfry.config"] += "\n[more]\nx = 1\n"; });
  refused("no features",
          [](Parts& p) { p.metadata["belfry.config"] = "[data]\ninteractions = \"-\"\n"; });
  refused("wider", [](Parts& p) { p.replace("units = [7]", "units = [8]"); });
  refused("enormous", [](Parts& p) { p.replace("units = [7]", "units = [7, 900000000, 7]"); });
  refused("a tower of another width", [](Parts& p) {
    p.replace("inputs = [\"user\", \"device\", \"hour\"]", "inputs = [\"user\"]");
  });
  refused("the other side", [](Parts& p) {
    p.replace("inputs = [\"user\", \"device\", \"hour\"]", "inputs = [\"item\"]");
  });
}

TEST_F(HostileModelTest, KernelsAreHeldAgainstTheFileBeforeTheirMemoryIsTaken) {
  const auto crossed = [](Parts& p, std::int64_t width) {
    p.replace("layers = [{ kind = \"mlp\"", "layers = [{ kind = \"cross\" }, { kind = \"mlp\"");
    p.at("query.0.kernel").name = "query.1.kernel";
    p.at("query.0.bias").name = "query.1.bias";
    Parts::Part kernel = p.at("query.1.kernel"), bias = p.at("query.1.bias");
    kernel.name = "query.0.0.kernel";
    kernel.shape = {width, width};
    kernel.bytes.assign(static_cast<std::size_t>(width * width * 4), {});
    bias.name = "query.0.0.bias";
    bias.shape = {1, 13};
    bias.bytes.assign(13 * 4, {});
    p.parts.push_back(kernel);
    p.parts.push_back(bias);
  };
  Parts good(m.path());
  crossed(good, 13);
  good.save(m.folder.path("crossed"));
  EXPECT_NE(load_model_file(ctx, m.folder.path("crossed")), nullptr);
  for (const std::int64_t width : {1, 12, 14}) {
    refused("a cross of another width", [&](Parts& p) { crossed(p, width); });
  }
}

TEST_F(HostileModelTest, OtherFormatsAndVersions) {
  for (const char* version : {"2.0", "0.9", "", "1", "10.0"}) {
    refused(version, [&](Parts& p) { p.metadata["belfry.version"] = version; });
  }
  Parts later(m.path());
  later.metadata["belfry.version"] = "1.7";  // a minor one adds, it does not change
  later.save(m.folder.path("later"));
  EXPECT_NE(load_model_file(ctx, m.folder.path("later")), nullptr);
  refused("format", [](Parts& p) { p.metadata["format"] = "pt"; });
  refused("no format", [](Parts& p) { p.metadata.erase("format"); });
}

TEST_F(HostileModelTest, NumbersThatAreNotFinite) {
  refused("item vector", [](Parts& p) { p.set<float>("item_vectors", 5, std::nanf("")); });
}

TEST_F(HostileModelTest, DamagedBytes) {
  const std::string path = m.folder.path("damaged"), good = slurp(m.path());
  Random random(4);
  for (int i = 0; i < 60; ++i) {
    spill(path, good);
    flip_bit(path,
             static_cast<std::size_t>(random.below(static_cast<std::int64_t>(good.size()) * 8)));
    EXPECT_EQ(error_of([&] { load_model_file(ctx, path); }).code(), ExitCode::bad_model);
  }
  for (const std::size_t n : {std::size_t{0}, std::size_t{7}, std::size_t{100}, good.size() - 1}) {
    spill(path, good.substr(0, n));
    EXPECT_EQ(error_of([&] { load_model_file(ctx, path); }).code(), ExitCode::bad_model) << n;
  }
  EXPECT_EQ(error_of([&] { load_model_file(ctx, m.folder.path("none")); }).code(), ExitCode::io);
}

}  // namespace
}  // namespace belfry::test
