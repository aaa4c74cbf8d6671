#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every test that docs/*.md names exists, in the file that is named before it, and every file named there exists.

Usage: docs_test.py [SOURCE_DIR]. Before it reads the tree it checks itself on text that must fail.
"""
import pathlib
import re
import sys

NAMED = re.compile(r"`((?:apps|belfry|bench|docs|engine|examples|kernels|tests|tools|validation)/[\w./-]+)`|`([A-Z]\w*)\.([A-Z]\w*)`")


def has_test(text, suite, name):
    return re.search(r"\bTEST(?:_F|_P)?\(\s*" + suite + r",\s*" + name + r"\s*\)", text) is not None


def faults(text, read):
    """What text names wrongly; read(path) gives a file's content or None. Also how many tests it names."""
    wrong, tests, path, content = [], 0, None, None
    for number, line in enumerate(text.splitlines(), 1):
        for match in NAMED.finditer(line):
            if match[1]:
                path, content = match[1], read(match[1])
                if content is None:
                    wrong.append(f"{number}: no {path}")
                continue
            tests += 1
            if content is None or not has_test(content, match[2], match[3]):
                wrong.append(f"{number}: no {match[2]}.{match[3]} in {path}")
    return wrong, tests


def self_check():
    files = {"tests/a_test.cpp": "TEST(A, One) {}\nTEST_F(Fix,\n Two) {}"}
    good = "`tests/a_test.cpp`: `A.One`, `Fix.Two`"
    assert faults(good, files.get) == ([], 2), faults(good, files.get)
    for bad in ("`tests/a_test.cpp`: `A.Two`", "`tests/b_test.cpp`", "`A.One`", "`tests/a_test.cpp`: `A.On`"):
        assert faults(bad, files.get)[0], bad


def main():
    self_check()
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)

    def read(name):
        path = root / name
        if path.is_dir():
            return ""
        return path.read_text(encoding="utf-8") if path.is_file() else None

    named = 0
    wrong = []
    for page in sorted((root / "docs").glob("*.md")):
        of_page, tests = faults(page.read_text(encoding="utf-8"), read)
        wrong += [f"{page.relative_to(root)}:{fault}" for fault in of_page]
        named += tests
    print("\n".join(wrong) or f"{named} tests named, all there")
    sys.exit(bool(wrong) or named == 0)


if __name__ == "__main__":
    main()
