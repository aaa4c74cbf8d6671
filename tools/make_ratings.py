#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_ratings.py N FILE: N made-up interactions `user,item,rating,timestamp`, items by Zipf's law, for timing."""
import itertools
import random
import sys

USERS, ITEMS = 160_000, 60_000


def main(count, path):
    draw = random.Random(1)
    weights = list(itertools.accumulate((rank + 10) ** -1.05 for rank in range(ITEMS)))
    with open(path, "w", encoding="ascii") as file:
        file.write("user,item,rating,timestamp\n")
        for start in range(0, count, 100_000):
            n = min(100_000, count - start)
            items = draw.choices(range(ITEMS), cum_weights=weights, k=n)
            file.writelines(f"{int(draw.random() * USERS)},{item},{4 + (item & 1)},{start + i}\n"
                            for i, item in enumerate(items))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
