#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The operators that change kernels: they hit device code, only that, and make what they say."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import coverage_kernels
import mutate_kernels
import mutation_operators as operators

SAMPLE = """// if (a < b) in a comment
template <int kN>
__device__ int helper(int a, int b) {
  return a < b ? min(a, b) : a;  // a < b
}
__global__ void __launch_bounds__(256)
    kernel(int* out, const std::vector<int>& v, int n) {
  const int lane = threadIdx.x % 32;
  for (int i = lane; i < n; i += 32) {
    out[i] = __shfl_xor_sync(kAllLanes, v[i + 1], 1);
  }
  __syncthreads();
  if (lane == 0 && n > 3) atomicAdd(&out[0], n);
  const int ticket = atomicAdd(out, 1);
  __syncwarp(0xffffffffu);
}
void host(int n) {
  if (n < 3) return;
  __syncthreads();
}
"""


def mutants():
    return operators.mutants_of("sample.cu", SAMPLE)


def made(name):
    return {m.after for m in mutants() if m.operator == name}


class Operators(unittest.TestCase):
    def test_only_device_code(self):
        self.assertEqual({m.line for m in mutants()}, {4, 8, 9, 10, 12, 13, 14, 15})

    def test_what_they_make(self):
        self.assertEqual(made("barrier dropped"), {";"})
        self.assertEqual(made("syncwarp dropped"), {";"})
        self.assertEqual(made("< to <="), {"return a <= b ? min(a, b) : a;  // a < b",
                                           "for (int i = lane; i <= n; i += 32) {"})
        self.assertEqual(made("mask halved"), {"out[i] = __shfl_xor_sync(0xffffu, v[i + 1], 1);",
                                               "__syncwarp(0xffffu);"})
        self.assertEqual(made("atomic made plain"), {"if (lane == 0 && n > 3) *(&out[0]) += n;",
                                                     "const int ticket = (*(out) += 1) - (1);"})
        self.assertIn("return a < b ? max(a, b) : a;  // a < b", made("min and max swapped"))
        self.assertIn("const int lane = threadIdx.x % 32 + 1;", made("lane off by one"))
        self.assertIn("out[i] = __shfl_xor_sync(kAllLanes, v[i], 1);", made("index off by one"))

    def test_loops_stay_finite(self):
        self.assertEqual(made("sum restarted"), set())

    def test_apply_changes_one_line(self):
        for mutant in mutants():
            changed = operators.apply(SAMPLE, mutant)
            differing = [n for n, (a, b) in enumerate(zip(SAMPLE.split("\n"), changed.split("\n")), 1) if a != b]
            self.assertEqual(differing, [mutant.line])
        with self.assertRaises(ValueError):
            operators.apply(SAMPLE.replace("return a < b", "return b < a"), mutants()[0])

    def test_selection_is_drawn_by_seed(self):
        self.assertEqual(operators.select(mutants(), 6, 3), operators.select(mutants(), 6, 3))
        self.assertNotEqual(operators.select(mutants(), 6, 3), operators.select(mutants(), 6, 4))
        everything = operators.select(mutants(), 1000, 1)
        self.assertEqual(sorted(m.key for m in everything), sorted(m.key for m in mutants()))
        self.assertEqual(everything[0].operator, "atomic made plain")


class Report(unittest.TestCase):
    def test_table_and_score(self):
        some = mutants()[:3]
        judged = [{"file": "sample.cu", "operator": some[2].operator, "before": some[2].before,
                   "after": some[2].after, "reason": "same sum"}]
        outcomes = [(some[0], {"killed": "check", "test": "a_test: A.B"}), (some[1], {"survived": True}),
                    (some[2], {"survived": True})]
        text, killed, rest = mutate_kernels.table(outcomes, judged, 1)
        self.assertEqual((killed, rest), (1, 2))
        self.assertIn("check: a_test: A.B", text)
        self.assertIn("**survived**", text)
        self.assertIn("equivalent: same sum", text)

    def test_failures_have_names(self):
        self.assertEqual(mutate_kernels.first_failure("[  FAILED  ] Shuffle.Odd (3 ms)"), "Shuffle.Odd")
        self.assertEqual(mutate_kernels.first_failure("[ RUN      ] A.B\nTIME LIMIT"), "time limit")
        self.assertEqual(mutate_kernels.first_failure("==1==ERROR: AddressSanitizer: x"), "AddressSanitizer")

    def test_coverage(self):
        folder = str(coverage_kernels.ROOT)
        report = {"current_working_directory": folder, "files": [
            {"file": "kernels/x/x.cu", "lines": [{"line_number": 1, "count": 0}, {"line_number": 2, "count": 0}]},
            {"file": "kernels/x/x.hpp", "lines": [{"line_number": 1, "count": 0}]}]}
        again = {"current_working_directory": folder, "files": [
            {"file": "kernels/x/x.cu", "lines": [{"line_number": 1, "count": 3}]}]}
        lines = coverage_kernels.count_lines([report, again])
        self.assertEqual({file: dict(counts) for file, counts in lines.items()}, {"kernels/x/x.cu": {1: 3, 2: 0}})
        rows, low = coverage_kernels.measured(lines)
        self.assertIn("| kernels/x/x.cu | 2 | 50.0 % | 2 |", coverage_kernels.table(rows))
        self.assertEqual(len(low), 1)
        self.assertEqual(coverage_kernels.ranges([3, 1, 2, 9]), "1-3, 9")


if __name__ == "__main__":
    unittest.main()
