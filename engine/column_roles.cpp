// SPDX-License-Identifier: Apache-2.0
#include "engine/column_roles.hpp"

#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <vector>

#include "engine/dataset.hpp"

namespace belfry {
namespace {

using Names = std::vector<std::string>;

std::string normalised(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return out;
}

// The first that fits wins, so the plain names come first.
const std::initializer_list<const char*> kUserNames = {
    "user",     "userid",    "uid",      "useridx",  "userprocid", "reviewerid", "customerid",
    "customer", "visitorid", "visitor",  "memberid", "member",     "accountid",  "account",
    "clientid", "client",    "personid", "buyerid",  "readerid",   "listenerid", "username",
    "reviewer", "profileid", "query",    "queryid",  "useremail"};
const std::initializer_list<const char*> kItemNames = {
    "item",      "itemid",     "iid",        "itemidx",     "itemprocid", "movieid",  "movie",
    "productid", "product",    "parentasin", "asin",        "businessid", "business", "trackid",
    "track",     "artistid",   "artist",     "songid",      "song",       "bookid",   "book",
    "isbn",      "videoid",    "video",      "articleid",   "article",    "newsid",   "news",
    "venueid",   "venue",      "locationid", "poiid",       "poi",        "placeid",  "gameid",
    "game",      "recipeid",   "recipe",     "animeid",     "anime",      "beerid",   "sku",
    "contentid", "showid",     "hotelid",    "jobid",       "adid",       "postid",   "courseid",
    "appid",     "movietitle", "candidate",  "candidateid", "docid",      "document", "documentid"};
const std::initializer_list<const char*> kWeightNames = {
    "rating",      "userrating",   "score",      "stars",        "star",      "starrating",
    "overall",     "weight",       "count",      "plays",        "playcount", "listens",
    "listencount", "reviewrating", "watchratio", "interactions", "quantity",  "views"};
const std::initializer_list<const char*> kTimeNames = {
    "timestamp",   "time",       "ts",        "unixreviewtime", "unixtime",  "unixtimestamp",
    "date",        "datetime",   "createdat", "createdtime",    "eventtime", "timems",
    "timestampms", "reviewtime", "ratedat",   "epoch"};

/// The first column of the list `names`, in their order, that is not `taken`.
std::string first_named(const Schema& schema, std::initializer_list<const char*> names,
                        bool numbers, const Names& taken) {
  for (const char* name : names) {
    for (std::size_t c = 0; c < schema.columns.size(); ++c) {
      if (normalised(schema.columns[c]) != name) continue;
      if (numbers && schema.types[c] == ColumnType::text) continue;
      if (std::find(taken.begin(), taken.end(), schema.columns[c]) == taken.end()) {
        return schema.columns[c];
      }
    }
  }
  return {};
}

}  // namespace

bool is_role_name(const std::string& name) {
  const std::string plain = normalised(name);
  for (const auto* names : {&kUserNames, &kItemNames, &kWeightNames, &kTimeNames}) {
    if (std::find(names->begin(), names->end(), plain) != names->end()) return true;
  }
  return false;
}

Roles guess_roles(const Schema& schema) {
  Roles roles;
  Names taken;
  const auto take = [&](std::string& role, std::string name) {
    role = std::move(name);
    if (!role.empty()) taken.push_back(role);
  };
  const auto by_position = [&](std::size_t c, bool number) -> std::string {
    if (c >= schema.columns.size()) return {};
    if (number && schema.types[c] == ColumnType::text) return {};
    const std::string& name = schema.columns[c];
    return std::find(taken.begin(), taken.end(), name) == taken.end() ? name : std::string();
  };
  take(roles.user, first_named(schema, kUserNames, false, taken));
  take(roles.item, first_named(schema, kItemNames, false, taken));
  take(roles.weight, first_named(schema, kWeightNames, true, taken));
  take(roles.time, first_named(schema, kTimeNames, true, taken));
  // A table with items but no users by name may be a side table; its first column is not a user then.
  const std::size_t last_user = roles.item.empty() ? schema.columns.size() : 1;
  for (std::size_t c = 0; roles.user.empty() && c < last_user; ++c) {
    take(roles.user, by_position(c, false));
  }
  for (std::size_t c = 0; roles.item.empty() && c < schema.columns.size(); ++c) {
    take(roles.item, by_position(c, false));
  }
  if (!schema.columns.empty() && schema.columns.size() <= 4 && schema.columns[0] == "column_1") {
    take(roles.weight, by_position(2, true));
    take(roles.time, by_position(3, true));
  }
  return roles;
}

}  // namespace belfry
