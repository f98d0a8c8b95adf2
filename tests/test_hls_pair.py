"""lib/mvu_pair.h, compiled: every operand triple of the three multiplier shapes, sums of many, and narrower operands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fpga_squeeze.emit.render import static_files
from fpga_squeeze.verify.headers import find_headers

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

MAIN = r"""
#include <cstdio>
#include <random>
#include "mvu_pair.h"

using fsq::multiply_pairs;
using fsq::pair_sums;

unsigned long long compared = 0;
unsigned long long wrong = 0;

template <unsigned LANES, unsigned SHIFT, unsigned W, unsigned A, bool PIXELS>
void check(const int (&hi)[LANES], const int (&lo)[LANES], const int (&shared)[LANES]) {
    constexpr unsigned WIDE = SHIFT + (PIXELS ? A + 1 : W);
    const pair_sums got = multiply_pairs<LANES, SHIFT, W + A, WIDE, PIXELS ? W : A>(hi, lo, shared);
    long long high = 0;
    long long low = 0;
    for (unsigned i = 0; i < LANES; ++i) {
        high += static_cast<long long>(hi[i]) * shared[i];
        low += static_cast<long long>(lo[i]) * shared[i];
    }
    ++compared;
    wrong += got.hi != high || got.lo != low;
}

// Every triple, one product at a time. Channels: hi signed, of W bits; pixels: hi unsigned, of A bits.
template <unsigned SHIFT, unsigned W, unsigned A, bool PIXELS>
void exhaust() {
    const int first = PIXELS ? 0 : -(1 << (W - 1));
    const int values = 1 << (PIXELS ? A : W);
    const int lows = 1 << (PIXELS ? A : W);
    const int shares = 1 << (PIXELS ? W : A);
    for (int h = first; h < first + values; ++h) {
        for (int l = 0; l < lows; ++l) {
            for (int s = 0; s < shares; ++s) {
                check<1, SHIFT, W, A, PIXELS>({h}, {l}, {s});
            }
        }
    }
}

// Sums: all operands at an end of their range, then anything.
template <unsigned LANES, unsigned SHIFT, unsigned W, unsigned A, bool PIXELS>
void sums(unsigned rounds) {
    std::mt19937 random(LANES * 1000 + SHIFT);
    int hi[LANES];
    int lo[LANES];
    int shared[LANES];
    const int ends[3][2] = {{PIXELS ? 0 : -(1 << (W - 1)), PIXELS ? (1 << A) - 1 : (1 << (W - 1)) - 1},
                            {0, (1 << (PIXELS ? A : W)) - 1}, {0, (1 << (PIXELS ? W : A)) - 1}};
    for (unsigned round = 0; round < rounds; ++round) {
        for (unsigned i = 0; i < LANES; ++i) {
            int* const operand[3] = {&hi[i], &lo[i], &shared[i]};
            for (unsigned k = 0; k < 3; ++k) {
                const int span = ends[k][1] - ends[k][0] + 1;
                *operand[k] = round < 8 ? ends[k][round >> k & 1] : ends[k][0] + static_cast<int>(random() % span);
            }
        }
        check<LANES, SHIFT, W, A, PIXELS>(hi, lo, shared);
    }
}

int main() {
@CASES@
    std::printf("%llu %llu\n", compared, wrong);
}
"""


def run(folder: Path, cases: str, change: tuple[str, str] | None = None) -> tuple[int, int]:
    """(compared, wrong) of a program with these cases; `change`: a text in mvu_pair.h and what takes its place."""
    for name, data in static_files("hls/lib", ".h").items():
        (folder / name).write_bytes(data)
    (folder / "hls_stream.h").write_bytes(static_files("hls/csim", ".h")["hls_stream.h"])
    if change is not None:
        text = (folder / "mvu_pair.h").read_text()
        assert text.count(change[0]) == 1
        (folder / "mvu_pair.h").write_text(text.replace(*change))
    (folder / "main.cpp").write_text(MAIN.replace("@CASES@", cases))
    command = ["g++", "-std=c++14", "-O2", "-w", "-isystem", str(find_headers().folder), "-I", str(folder), "-o", str(folder / "pair"), "main.cpp"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    done = subprocess.run([str(folder / "pair")], check=True, capture_output=True, text=True, timeout=50)
    match = re.fullmatch(r"(\d+) (\d+)\n", done.stdout)
    assert match
    return int(match[1]), int(match[2])


def test_every_triple(tmp_path: Path) -> None:
    """8-bit weights and activations: DSP48E2, DSP48E1 and MULT18X18 by channels and by pixels."""
    shapes = [(19, "false"), (17, "false"), (10, "false"), (18, "true"), (16, "true"), (9, "true")]
    compared, wrong = run(tmp_path, "\n".join(f"    exhaust<{shift}, 8, 8, {pixels}>();" for shift, pixels in shapes))
    assert (compared, wrong) == (len(shapes) << 24, 0)


SUMS = [
    (1, 19, 8, 8, "false"), (9, 19, 8, 8, "false"), (27, 17, 8, 8, "false"), (10, 10, 8, 8, "false"), (36, 18, 8, 8, "true"), (7, 16, 8, 8, "true"),
    (18, 9, 8, 8, "true"), (20, 23, 4, 4, "false"), (64, 24, 4, 5, "true"), (5, 12, 6, 5, "true"), (6, 8, 2, 7, "false"), (3, 13, 7, 8, "true"),
]  # fmt: skip


def test_sums_of_many(tmp_path: Path) -> None:
    """Lanes that fill no whole group, groups larger than the lanes, and fields that overlap by 0 to 7 bits."""
    compared, wrong = run(tmp_path, "\n".join(f"    sums<{', '.join(map(str, case))}>(2000);" for case in SUMS))
    assert (compared, wrong) == (2000 * len(SUMS), 0)


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("exhaust<8, 4, 4, false>();", ("(high << SHIFT)", "(high << (SHIFT - 1))")),
        ("sums<9, 19, 8, 8, false>(100);", ("1u << smaller(SHIFT - PRODUCT_BITS, ", "2u << smaller(SHIFT - PRODUCT_BITS, ")),
        ("sums<10, 10, 8, 8, false>(100);", ("(packed - low) >> SHIFT", "packed >> SHIFT")),
    ],
)
def test_a_fault_is_noticed(tmp_path: Path, case: str, change: tuple[str, str]) -> None:
    assert run(tmp_path, f"    {case}")[1] == 0
    assert run(tmp_path, f"    {case}", change)[1] > 0
