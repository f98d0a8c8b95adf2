"""The HLS lint: clean on generated sources, and it finds a planted example of every class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hls_cases import NetBuilder, hand_plan, refold

from fpga_squeeze.emit.hls import emit_hls
from fpga_squeeze.errors import InputError
from fpga_squeeze.verify.hls_pragmas import parse_pragmas
from fpga_squeeze.verify.lint import lint

pytest.importorskip("clang.cindex", reason="libclang is a development dependency")

GOOD = """#include <ap_int.h>
#include <hls_stream.h>

namespace {
constexpr unsigned SIZE = 12;
constexpr unsigned twice(unsigned n) { return 2 * n; }
}

unsigned helper(unsigned n) {
#pragma HLS INLINE
    return n + 1;
}

template <unsigned N>
void kernel(hls::stream<ap_uint<8>>& in, hls::stream<ap_uint<8>>& out, unsigned count) {
#pragma HLS INTERFACE mode=axis port=in
    ap_uint<8> buffer[SIZE][4];
#pragma HLS ARRAY_PARTITION variable=buffer type=cyclic factor=3 dim=1
    hls::stream<ap_uint<8>> inner("inner");
#pragma HLS STREAM variable=inner depth=2
OUTER:
    for (unsigned i = 0; i + 1 < twice(SIZE) + N; ++i) {
#pragma HLS PIPELINE II=1
        buffer[i % SIZE][0] = in.read();
        out.write(buffer[i % SIZE][0] + helper(count));
    }
}
"""


def findings(folder: Path, text: str) -> list[str]:
    (folder / "kernel.cpp").write_text(text)
    return [f"{f.line} {f.rule} {f.message}" for f in lint(folder)]


def test_good_source_is_clean(tmp_path: Path) -> None:
    assert findings(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "rule", "words"),
    [
        ("variable=buffer", "variable=bufer", "scope", "no variable bufer"),
        ("variable=inner depth", "variable=hidden depth", "scope", "no variable hidden"),
        ("port=in\n", "port=inn\n", "scope", "no variable inn"),
        ("twice(SIZE) + N; ++i", "count; ++i", "bounds", "reads count"),
        ("twice(SIZE) + N; ++i", "helper(SIZE); ++i", "bounds", "reads helper"),
        ("for (unsigned i = 0; i + 1 < twice(SIZE) + N; ++i) {", "for (unsigned i = 0;; ++i) {", "bounds", "condition"),
        ("for (unsigned i = 0; i + 1 < twice(SIZE) + N; ++i) {", "unsigned i = 0; while (i < SIZE) {", "bounds", "only for loops"),
        ("OUTER:\n", "", "label", "carries a label"),
        ("factor=3", "factor=5", "factor", "does not divide 12"),
        ("factor=3", "factor=SIZE", "factor", "needs a factor"),
        ("buffer[SIZE][4]", "buffer[N][4]", "factor", "cannot be proven"),
        ("dim=1", "dim=3", "factor", "has 2 dimensions"),
        ("depth=2", "depth=0", "factor", "no positive number"),
        ("out.write(", "auto* p = new int[4]; out.write(", "forbidden", "dynamic memory"),
        ("out.write(", "int* p = nullptr; out.write(", "forbidden", "no pointers"),
        ("out.write(", "throw 1; out.write(", "forbidden", "exceptions"),
        ("return n + 1;", "return n == 0 ? 1 : helper(n - 1);", "recursion", "helper can call itself"),
        ("#pragma HLS PIPELINE", "#pragma HLS PIPELIN", "pragma", "unknown pragma HLS pipelin"),
        ("PIPELINE II=1", "PIPELINE III=1", "pragma", "unknown option iii"),
        ("PIPELINE II=1", "PIPELINE II=1 style=fast", "pragma", "is none of"),
        ("type=cyclic factor", "factor", "pragma", "option type is missing"),
        ("#pragma HLS INLINE", "#pragma GCC unroll", "pragma", "unknown pragma GCC"),
        ("#pragma HLS PIPELINE II=1\n", "count += 1;\n#pragma HLS PIPELINE II=1\n", "pragma", "must come first"),
        ("namespace {", "#define SIZE2 3\nnamespace {", "macro", "no macros"),
        ("return n + 1;", "return n + ;", "syntax", "expected expression"),
    ],
)
def test_planted_fault_is_found(tmp_path: Path, old: str, new: str, rule: str, words: str) -> None:
    assert GOOD.count(old) >= 1
    found = findings(tmp_path, GOOD.replace(old, new, 1))
    assert any(f" {rule} " in f and words in f for f in found), found


def test_variable_of_a_closed_block_is_out_of_scope(tmp_path: Path) -> None:
    text = GOOD.replace("OUTER:", "    { int gone[4]; gone[0] = 1; }\n#pragma HLS ARRAY_PARTITION variable=gone type=complete\nOUTER:")
    assert any("no variable gone" in f for f in findings(tmp_path, text))


def test_no_sources(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no HLS sources"):
        lint(tmp_path)


def test_pragma_parsing_tolerates_spaces_and_case() -> None:
    (pragma,) = parse_pragmas("  # pragma hls Array_Partition variable = x type=complete dim=1 // reason")
    assert (pragma.name, pragma.options) == ("array_partition", {"variable": "x", "type": "complete", "dim": "1"})


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = NetBuilder(1)
    x = net.conv("conv1", net.image(3, 9, 9), 4, 3, 2)
    x = net.fire("fire2", net.pool("pool1", x, 2, 2), 2, 4, 4)
    qgraph = net.finish(net.conv("conv10", x, 5, 1))
    folder = tmp_path_factory.mktemp("generated")
    for path, data in emit_hls(qgraph, hand_plan(qgraph, {"conv1": (2, 3, 9), "fire2.expand3x3": (2, 2, 3)}, {"fire2.concat": 4})).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder / "hls"


def test_generated_sources_are_clean(generated: Path) -> None:
    assert lint(generated) == ()


def test_groups_and_pairs_are_clean(tmp_path: Path) -> None:
    """Several pixels at a time, products packed by pixels, weights bound to a storage."""
    net = NetBuilder(2)
    x = net.fire("fire2", net.conv("conv1", net.image(3, 9, 9), 4, 3, 2), 2, 4, 4)
    qgraph = net.finish(net.conv("conv10", x, 5, 1))
    folds = {name: (2, 1, 1, 2) for name in ("fire2.squeeze", "fire2.expand1x1", "conv10")}
    plan = hand_plan(qgraph, {"conv1": (2, 3, 9, 3), "fire2.expand3x3": (2, 2, 3, 2), **folds})
    packed = refold(plan, qgraph, lambda e: replace(e, packing="pixels", pack_shift=18, weight_storage="lut"))
    for path, data in emit_hls(qgraph, packed).items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    names = ("pixel_group.h", "group_reader.h", "pixel_reader.h", "mvu_pair.h")
    assert all((tmp_path / "hls/lib" / name).is_file() for name in names)
    assert "_order(" in (tmp_path / "hls/net.cpp").read_text() and "_gather(" in (tmp_path / "hls/net.cpp").read_text()
    assert lint(tmp_path / "hls") == ()
    header = tmp_path / "hls/lib/mvu_pair.h"
    header.write_text(header.read_text().replace("op=mul impl=dsp", "op=mul impl=dsp48"))
    assert [f.message for f in lint(tmp_path / "hls")] == ["bind_op: impl=dsp48 is none of dsp, fabric"]


def test_fault_in_a_generated_pragma_is_found(generated: Path) -> None:
    path = generated / "fire2.cpp"
    text = path.read_text()
    try:
        path.write_text(text.replace("variable=fire2_squeeze_weights", "variable=fire2_squeeze_weight", 1))
        assert [(f.file, f.rule) for f in lint(generated)] == [("fire2.cpp", "scope")]
        path.write_text(text.replace("type=rom_1p", "type=rom", 1))
        assert [(f.file, f.rule) for f in lint(generated)] == [("fire2.cpp", "pragma")]
    finally:
        path.write_text(text)
