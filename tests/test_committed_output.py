"""hls_out/squeezenet_digits is committed for readers: it must be what this version of the templates and the simulator gives."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from fpga_squeeze import pipeline
from fpga_squeeze.config import load_config
from fpga_squeeze.emit import golden, hls, onnx, rtl, writer
from fpga_squeeze.simulate.fast import FastSimulator

OUT = Path(__file__).parent.parent / "hls_out" / "squeezenet_digits"
REFRESH = "refresh it with `make committed`"


def committed(*folders: str) -> dict[str, bytes]:
    files = (p for folder in folders for p in (OUT / folder).rglob("*") if p.is_file())
    return {p.relative_to(OUT).as_posix(): p.read_bytes() for p in files}


def test_sources_and_golden_data_equal_a_fresh_emission() -> None:
    """From the committed quantized graph: the last bit of a float calibration may differ between processors, the emission may not."""
    opened = pipeline.open_export(OUT)
    plan = pipeline.open_plan(opened)
    frames = golden.read_frames(OUT, opened.qgraph)
    fresh = hls.emit_hls(opened.qgraph, plan, pipeline.hls_options(load_config(OUT / "model/build.toml"), None))
    fresh.update(rtl.emit_rtl(opened.qgraph, plan, pipeline.rtl_options(load_config(OUT / "model/build.toml"), None)))
    traces = FastSimulator(opened.qgraph).trace(frames)
    fresh.update(golden.golden_files(opened.qgraph, plan, frames, traces))
    fresh.update(onnx.onnx_files(opened.qgraph, "qdq"))
    sums = traces[opened.qgraph.output].reshape(len(frames), -1).astype(np.int64)
    fresh.update(pipeline.board_files(opened.qgraph, plan, opened.preprocess, load_config(OUT / "model/build.toml"), frames, sums))
    on_disk = committed("hls", "rtl", "sim", "tb_data", "board")
    on_disk.update({name: (OUT / name).read_bytes() for name in onnx.FILES.values() if (OUT / name).is_file()})
    assert sorted(fresh) == sorted(on_disk), REFRESH
    differing = [name for name in sorted(fresh) if fresh[name] != on_disk[name]]
    assert not differing, f"{differing[:3]} differ: {REFRESH}"


def test_manifest_names_every_file_with_its_digest() -> None:
    manifest = writer.read_manifest(OUT)
    assert manifest is not None
    files = manifest["files"]
    assert isinstance(files, dict)
    on_disk = {name: hashlib.sha256(content).hexdigest() for name, content in committed(".").items() if name != writer.MANIFEST}
    assert files == on_disk, REFRESH
