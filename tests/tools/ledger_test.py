#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules of the ledger: each must refuse what it is there to refuse."""
import copy
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import ledger
import ledger_rules as rules

RUN = {"id": "2026-01-15-h200-1", "commit": "a" * 40, "dirty": False, "result": "pass",
       "device": {"name": "NVIDIA H200"},
       "suites": [{"binary": "gpu_shuffle_test", "ran": 3, "failed": 0, "skipped": 0, "seconds": 1}],
       "sanitizer": {"memcheck": 0, "racecheck": 0, "synccheck": 0, "initcheck": 0},
       "kernels": {"k": {"launches": 2, "ptx": "11"}}}


def run(**changes):
    return copy.deepcopy(RUN) | changes


def book(*runs):
    return {"schema": 1, "runs": list(runs)}


class OneRun(unittest.TestCase):
    def test_a_good_one(self):
        self.assertEqual(rules.faults_of_run(RUN), [])

    def refused(self, word, **changes):
        faults = rules.faults_of_run(run(**changes))
        self.assertEqual(len(faults), 1, faults)
        self.assertIn(word, faults[0])

    def test_refusals(self):
        self.refused("DATE-DEVICE-NUMBER", id="my run")
        self.refused("40 hex", commit="abc")
        self.refused("dirty", dirty=True)
        self.refused("none of pass", result="ok")
        self.refused("without suites", suites=[])
        self.refused("suite", suites=[RUN["suites"][0] | {"failed": 1}])
        self.refused("suite", suites=[RUN["suites"][0] | {"skipped": 1}])
        self.refused("suite", suites=[RUN["suites"][0] | {"ran": 0}])
        self.refused("racecheck", sanitizer=RUN["sanitizer"] | {"racecheck": 4})
        self.refused("unknown", sanitizer=RUN["sanitizer"] | {"lint": 0})
        self.refused("without initcheck", sanitizer=RUN["sanitizer"] | {"initcheck": None})
        self.refused("launches", kernels={"k": {}})

    def test_a_missing_field(self):
        broken = run()
        del broken["device"]
        self.assertIn("device", rules.faults_of_run(broken)[0])

    def test_a_failing_run_is_recorded_too(self):
        failed = run(result="fail", suites=[RUN["suites"][0] | {"failed": 1}], sanitizer={"memcheck": 3})
        self.assertEqual(rules.faults_of_run(failed), [])

    def test_a_partial_run_is_recorded_and_makes_nothing_valid(self):
        partial = run(result="partial", sanitizer=RUN["sanitizer"] | {"initcheck": None})
        self.assertEqual(rules.faults_of_run(partial), [])
        self.assertEqual(ledger.state_of("k", "11", [partial])[0], "never")


class Book(unittest.TestCase):
    def test_ids_are_ordered_by_day_then_number(self):
        ids = ["2026-01-15-h200-9", "2026-01-15-h200-10", "2026-01-16-h100-1"]
        self.assertEqual(rules.faults_of_ledger(book(*(run(id=i) for i in ids))), [])
        self.assertTrue(rules.faults_of_ledger(book(*(run(id=i) for i in reversed(ids)))))
        self.assertTrue(rules.faults_of_ledger(book(RUN, RUN)))

    def test_form(self):
        self.assertTrue(rules.faults_of_ledger({"schema": 2, "runs": []}))
        self.assertTrue(rules.faults_of_ledger(book(run(kernels={"k": {"launches": 1}}))))

    def test_history_is_only_added_to(self):
        a, b, c = run(id="2026-01-01-x-1"), run(id="2026-01-02-x-1"), run(id="2026-01-03-x-1")
        self.assertEqual(rules.faults_of_history(book(a, b), book(a, b, c)), [])
        self.assertEqual(rules.faults_of_history(book(), book(a)), [])
        self.assertTrue(rules.faults_of_history(book(a, b), book(a)))
        self.assertTrue(rules.faults_of_history(book(a, b), book(b, a)))
        self.assertTrue(rules.faults_of_history(book(a), book(a | {"result": "fail"})))

    def test_evidence(self):
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name)
            self.assertTrue(rules.faults_of_evidence(root, book(RUN)))
            folder = root / "validation/runs" / RUN["id"]
            folder.mkdir(parents=True)
            (folder / "memcheck.log").write_text("0 errors")
            self.assertEqual(rules.faults_of_evidence(root, book(RUN)), [])
            (folder / "core").write_bytes(b"\0\1")
            self.assertTrue(rules.faults_of_evidence(root, book(RUN)))


class Documents(unittest.TestCase):
    def faults(self, line):
        return rules.faults_of_line(line, {"2026-01-15-h200-1"}, "modelled" in line)

    def test_a_figure_of_a_gpu_needs_a_run(self):
        self.assertTrue(self.faults("On an H200 the gather reaches 93 % of the copy rate."))
        self.assertTrue(self.faults("| fused loss | H100 | 410 TFLOP/s |"))
        self.assertFalse(self.faults("On an H200 it reaches 93 % [run 2026-01-15-h200-1]."))
        self.assertTrue(self.faults("On an H200 it reaches 93 % [run 2026-01-16-h200-1]."))

    def test_what_needs_none(self):
        self.assertFalse(self.faults("Modelled on the GPU: 45 % of bf16 (modelled)."))
        self.assertFalse(self.faults("Gather on the CPU: 0.85 of memcpy, 93 %"))
        self.assertFalse(self.faults("`sm_90` is compiled in CI; a GPU is not needed."))


class States(unittest.TestCase):
    def test_states(self):
        runs = [run(), run(id="2026-02-01-h200-1", result="fail", kernels={"k": {"launches": 5, "ptx": "22"}})]
        self.assertEqual(ledger.state_of("k", "11", runs), ("valid", "2026-01-15-h200-1"))
        self.assertEqual(ledger.state_of("k", "22", runs), ("stale", "2026-01-15-h200-1"))
        self.assertEqual(ledger.state_of("other", "11", runs)[0], "never")

    def test_compiled_but_never_launched_does_not_count(self):
        self.assertEqual(ledger.state_of("k", "11", [run(kernels={"k": {"launches": 0, "ptx": "11"}})])[0], "never")

    def test_the_newest_clean_run_decides(self):
        runs = [run(), run(id="2026-02-01-h200-1", kernels={"k": {"launches": 1, "ptx": "22"}})]
        self.assertEqual(ledger.state_of("k", "11", runs)[0], "stale")

    def test_names_are_short(self):
        self.assertEqual(ledger.short("void belfry::cuda::k::run<8, (bool)1>(int, float*)"),
                         "belfry::cuda::k::run<8, (bool)1>")

    def test_digests(self):
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write('<testsuites><testsuite name="S"><testcase name="C" classname="S"><properties>'
                       '<property name="digest.ids" value="77"/><property name="n" value="1"/>'
                       "</properties></testcase></testsuite></testsuites>")
            file.flush()
            self.assertEqual(ledger.digests_in(file.name), {"S.C ids": "77"})


if __name__ == "__main__":
    unittest.main()
