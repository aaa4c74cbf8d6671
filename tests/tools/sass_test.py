#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reading SASS, on a recorded snippet, and the model's arithmetic."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import sass
import sass_model as model

# An outer loop over .L_x_1 with a tensor-core loop .L_x_2 inside, a rare path, and a shuffle's stand-in behind the end.
DUMP = """
//--------------------- .text.other --------------------------
	.section	.text.other,"ax",@progbits
.text.other:
        /*0000*/                   EXIT ;
//--------------------- .text.kernel --------------------------
	.section	.text.kernel,"ax",@progbits
.text.kernel:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P1 BRA `(.L_x_4) ;
.L_x_1:
        /*0020*/                   LDG.E.128 R4, desc[UR8][R2.64] ;
.L_x_2:
        /*0030*/                   LDSM.16.M88.4 R8, [R12] ;
        /*0040*/                   HMMA.16816.F32.BF16 R12, R12, R22, R8 ;
        /*0050*/                   HMMA.16816.F32.BF16 R12, R12, R22, R8 ;
        /*0060*/                   MUFU.EX2 R5, R5 ;
        /*0070*/               @P2 BRA `(.L_x_3) ;
        /*0080*/                   ATOMS.ADD RZ, [R4], R5 ;
.L_x_3:
        /*0090*/                   BRA.DIV UR4, `(.L_x_5) ;
        /*00a0*/                   FFMA R1, R2, R3, R4 ;
        /*00b0*/                   ISETP.GE.AND P0, PT, R4, R7, PT ;
        /*00c0*/              @!P0 BRA `(.L_x_2) ;
        /*00d0*/                   FADD R1, R2, R3 ;
        /*00e0*/               @P3 BRA `(.L_x_1) ;
.L_x_4:
        /*00f0*/                   EXIT ;
.L_x_5:
        /*0100*/                   WARPSYNC.COLLECTIVE R15, `(.L_x_6) ;
.L_x_6:
        /*0110*/                   BRA `(.L_x_3);
.L_x_7:
        /*0120*/                   BRA `(.L_x_7);
        /*0130*/                   NOP;
"""
SAID = """ptxas info    : Compiling entry function 'kernel' for 'sm_90'
ptxas info    : Function properties for kernel
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 34 registers, used 1 barriers, 8 bytes cumulative stack size, 3072 bytes smem, 400 bytes cmem[0]
ptxas info    : Compiling entry function 'other' for 'sm_90'
ptxas info    : Function properties for other
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 4 registers, used 0 barriers
"""


def names(instructions):
    return [i.name for i in instructions]


class Reading(unittest.TestCase):
    def setUp(self):
        self.flow = sass.Flow(*sass.parse(DUMP)["kernel"])

    def test_kernels_and_instructions(self):
        kernels = sass.parse(DUMP)
        self.assertEqual(sorted(kernels), ["kernel", "other"])
        instructions, labels = kernels["kernel"]
        self.assertEqual(len(instructions), 20)
        self.assertEqual(labels[".L_x_2"], 0x30)
        self.assertEqual((instructions[1].guard, instructions[1].target), ("@!P1", ".L_x_4"))

    def test_loops_are_nested(self):
        loops = self.flow.loops()
        sizes = sorted(len([i for n in body for i in self.flow.blocks[n]]) for body in loops.values())
        self.assertEqual(sizes, [10, 13])  # the idle loop behind the end is not reached

    def test_the_hottest_loop_without_its_rare_path(self):
        body, left_out = model.hottest(self.flow)
        self.assertEqual(names(body)[:3], ["LDSM", "HMMA", "HMMA"])
        self.assertNotIn("ATOMS", names(body))
        self.assertEqual((len(body), left_out), (9, 1))

    def test_a_way_around_the_arithmetic_is_not_taken(self):
        around = DUMP.replace("LDSM.16.M88.4 R8, [R12] ;\n", "LDSM.16.M88.4 R8, [R12] ;\n"
                              "        /*0038*/               @P4 BRA `(.L_x_3) ;\n")
        body, _ = model.hottest(sass.Flow(*sass.parse(around)["kernel"]))
        self.assertEqual(names(body).count("HMMA"), 2)

    def test_blocks_named_cold_are_left_out(self):
        body, left_out = model.hottest(self.flow, ["FFMA"])
        self.assertNotIn("FFMA", names(body))
        self.assertEqual((len(body), left_out), (6, 4))

    def test_resources(self):
        self.assertEqual(sass.resources(SAID), {"kernel": {"registers": 34, "spill_bytes": 28, "smem": 3072},
                                                "other": {"registers": 4, "spill_bytes": 0, "smem": 0}})


class Model(unittest.TestCase):
    def setUp(self):
        self.body, _ = model.hottest(sass.Flow(*sass.parse(DUMP)["kernel"]))

    def test_clocks(self):
        clocks = model.clocks(self.body)
        self.assertAlmostEqual(clocks["tensor"], 2 / 0.62)
        self.assertEqual(clocks["MUFU"], 2)
        self.assertEqual(clocks["FMA"], 0.25)
        self.assertEqual(clocks["ALU"], 0.5)
        self.assertEqual(clocks["issue"], 9 / 4)
        self.assertEqual(clocks["shared"], 4)

    def test_units(self):
        self.assertEqual(model.units_of_trip(self.body, {"unit": "score", "d": "64", "gemms": 2}), 32)
        self.assertEqual(model.units_of_trip(self.body, {}), 0)

    def test_widths(self):
        def of(opcode):
            return sass.Instruction(0, "", opcode, "")
        self.assertEqual(model.shared_bytes(of("LDS.128")), 512)
        self.assertEqual(model.shared_bytes(of("LDS")), 128)
        self.assertEqual(model.shared_bytes(of("LDS.U16")), 64)
        self.assertEqual(model.shared_bytes(of("LDSM.16.MT88.2")), 256)
        self.assertEqual(model.shared_bytes(of("LDGSTS.E.BYPASS.LTC128B.128")), 512)
        self.assertEqual(model.global_bytes(of("LDG.E.128.CONSTANT")), 512)
        self.assertEqual(model.global_bytes(of("STG.E")), 128)

    def test_occupancy(self):
        self.assertEqual(model.occupancy(128, 0, 128), (16, "registers"))
        self.assertEqual(model.occupancy(32, 100 * 1024, 256), (16, "shared memory"))
        self.assertEqual(model.occupancy(16, 0, 256), (64, "warps"))
        self.assertEqual(model.occupancy(16, 0, 32), (32, "blocks"))


if __name__ == "__main__":
    unittest.main()
