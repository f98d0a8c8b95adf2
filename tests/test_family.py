"""The family's builder and members: tables, counts, names, state dicts; and every member as a machine on both simulators (slow)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rtl_machines import require

from fpga_squeeze import jobs, passes, pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.errors import InputError
from fpga_squeeze.hardware.memory import memory_rows
from fpga_squeeze.ir import Add, Conv, Graph
from fpga_squeeze.load.model import LoadOptions, load_model
from fpga_squeeze.simulate.float_model import FloatModel
from fpga_squeeze.verify.checks import VerifyOptions
from fpga_squeeze.zoo.arch import (
    ARCHS,
    SQUEEZENET1_0,
    SQUEEZENET1_1,
    Arch,
    FireSpec,
    Metaparameters,
    PoolSpec,
    build_arch,
    find_arch,
    parse_metaparameters,
)
from fpga_squeeze.zoo.squeezenet import SqueezeNet, parameter_count

MEMBERS = ["squeezenet1_0", "squeezenet1_1", "squeezenet1_0_bypass", "squeezenet1_1_bypass", "squeezenet1_0_complex_bypass", "squeezenet1_1_complex_bypass"]
SMALL = "custom:base_e=8,incr_e=4,freq=2,pct_3x3=0.5,sr=0.25,stem=1.1"


def saved(tmp_path: Path, name: str, classes: int = 3, in_channels: int | None = None, seed: int = 0) -> tuple[Path, SqueezeNet]:
    torch.manual_seed(seed)
    model = SqueezeNet(name, classes=classes, in_channels=in_channels).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
        elif isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            torch.nn.init.normal_(module.bias, std=0.05)
    torch.nn.init.normal_(dict(model.named_parameters())["classifier.1.weight"], std=0.3)
    path = tmp_path / "model.pt"
    torch.save(model.state_dict(), path)
    return path, model


def fires(arch: Arch) -> dict[str, FireSpec]:
    return {f.name: f for f in arch.layers if isinstance(f, FireSpec)}


def bypasses(arch: Arch) -> dict[str, str]:
    return {name: f.bypass for name, f in fires(arch).items() if f.bypass != "none"}


# ---------------------------------------------------------------- the builder


def test_the_builder_gives_the_papers_tables() -> None:
    widths = [(16, 64, 64), (16, 64, 64), (32, 128, 128), (32, 128, 128), (48, 192, 192), (48, 192, 192), (64, 256, 256), (64, 256, 256)]
    for arch, stem, pools in ((SQUEEZENET1_0, (96, 7, 2, 0), [1, 4, 8]), (SQUEEZENET1_1, (64, 3, 2, 0), [1, 3, 5])):
        conv1 = arch.layers[0]
        assert (conv1.out_channels, conv1.kernel, conv1.stride, conv1.padding) == stem  # type: ignore[union-attr]
        assert [(f.squeeze, f.expand1x1, f.expand3x3) for f in fires(arch).values()] == widths
        before = [arch.layers[i - 1].name for i, layer in enumerate(arch.layers) if isinstance(layer, PoolSpec)]
        assert before == ["conv1", *(f"fire{n}" for n in pools[1:])]
        assert arch.dropout == 0.5 and arch.final_channels == 512 and not bypasses(arch)


def test_bypasses_stand_where_the_paper_puts_them() -> None:
    for version in ("1_0", "1_1"):
        assert bypasses(find_arch(f"squeezenet{version}_bypass")) == dict.fromkeys(("fire3", "fire5", "fire7", "fire9"), "simple")
        expected = {f"fire{n}": "simple" if n % 2 else "conv" for n in range(2, 10)}
        assert bypasses(find_arch(f"squeezenet{version}_complex_bypass")) == expected


def test_parameters_and_macs_of_the_members(tmp_path: Path) -> None:
    """A simple bypass costs none; a complex one the four 1x1 convolutions: 96 or 64 to 128, 128 to 256, 256 to 384, 384 to 512 channels, and biases."""
    convs = {"1_0": 96 * 128 + 128 * 256 + 256 * 384 + 384 * 512, "1_1": 64 * 128 + 128 * 256 + 256 * 384 + 384 * 512}
    counts = {"1_0": 1_248_424, "1_1": 1_235_496}
    for version, count in counts.items():
        for suffix, more in (("", 0), ("_bypass", 0), ("_complex_bypass", convs[version] + 128 + 256 + 384 + 512)):
            arch = find_arch(f"squeezenet{version}{suffix}")
            assert parameter_count(arch) == count + more == sum(p.numel() for p in SqueezeNet(arch).parameters()), arch.name
    maps = {"1_0": [54**2, 54**2, 27**2, 27**2], "1_1": [55**2, 27**2, 13**2, 13**2]}
    plain = {"1_0": 818.92, "1_1": 349.15}
    for version, millions in plain.items():
        extra = sum(a * b * n for (a, b), n in zip(((96 if version == "1_0" else 64, 128), (128, 256), (256, 384), (384, 512)), maps[version], strict=True))
        path, _ = saved(tmp_path, f"squeezenet{version}_complex_bypass", classes=1000)
        graph = load_model(path, LoadOptions(arch=f"squeezenet{version}_complex_bypass")).graph
        assert round((graph.macs - extra) / 1e6, 2) == millions


def test_metaparameters_follow_the_papers_formula() -> None:
    arch = build_arch("m", Metaparameters(base_e=64, incr_e=32, freq=3, pct_3x3=0.25, sr=0.5))
    assert [f.out_channels for f in fires(arch).values()] == [64, 64, 64, 96, 96, 96, 128, 128]
    assert fires(arch)["fire9"] == FireSpec("fire9", 64, 96, 32)
    # Bypasses go by channels: with freq=3 five fires keep them.
    assert sorted(bypasses(build_arch("m", Metaparameters(base_e=64, incr_e=32, freq=3, bypass="simple")))) == ["fire3", "fire4", "fire6", "fire7", "fire9"]


def test_custom_text_round_trips_and_is_an_arch_name() -> None:
    meta = Metaparameters(base_e=16, incr_e=8, sr=0.25, stem="1.1", bypass="complex", batch_norm=True)
    assert parse_metaparameters(meta.text) == meta
    arch = find_arch("custom:bypass=complex, base_e=16,incr_e=8,sr=0.25,stem=1.1,batch_norm=true")
    assert arch.name == meta.text and arch == find_arch(arch.name) and arch.batch_norm
    assert find_arch("custom:").layers == SQUEEZENET1_0.layers


@pytest.mark.parametrize(("text", "wanted"), [
    ("custom:base=3", "'base=3' is not one of base_e=int"), ("custom:sr=0", "metaparameter sr"), ("custom:sr=x", "sr is 'x', expected a number"),
    ("custom:freq=0", "metaparameter freq: 1 to"), ("custom:base_e=9999", "metaparameter base_e: 2 to 4096"),
    ("custom:bypass=all", "one of none, simple, complex"),
    ("custom:stem=2.0", "1.0 or 1.1"), ("custom:base_e=4,sr=0.01", "fire2 has 0 squeeze"), ("custom:freq=1,freq=2", "each at most once"),
    ("custom:batch_norm=yes", "true or false"), ("custom:incr_e=4000", "1 or more each"), ("squeezenet1_2_bypass", "unknown arch"),
])  # fmt: skip
def test_bad_metaparameters_are_one_clear_line(text: str, wanted: str) -> None:
    with pytest.raises(InputError) as caught:
        find_arch(text)
    assert wanted in str(caught.value) and "\n" not in str(caught.value)


# ---------------------------------------------------------------- loading


def equal(graph: Graph, model: SqueezeNet, channels: int, size: int) -> None:
    x = torch.randn(2, channels, size, size)
    with torch.no_grad():
        expected = model(x)
    assert expected.abs().max() > 0
    torch.testing.assert_close(FloatModel(graph).run(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("extra", ["", ",bypass=simple", ",bypass=complex", ",batch_norm=true", ",bypass=complex,batch_norm=true"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_custom_state_dict_loads_as_its_module_computes(tmp_path: Path, extra: str, channels: int) -> None:
    path, model = saved(tmp_path, SMALL + extra, classes=5, in_channels=channels)
    loaded = load_model(path, LoadOptions(arch=SMALL + extra, input_size=33, preprocess="digits" if channels == 1 else None))
    assert loaded.classes == 5 and loaded.arch == find_arch(SMALL + extra).name
    equal(loaded.graph, model, channels, 33)
    lowered = passes.lower(loaded.graph, loaded.preprocess)
    assert not any(type(n.op).__name__ == "BatchNorm" for n in lowered.nodes)
    assert sum(isinstance(n.op, Add) for n in lowered.nodes) == {"": 0, ",batch_norm=true": 0, ",bypass=simple": 4}.get(extra, 8)


def test_auto_takes_a_simple_bypass_for_the_plain_net_and_says_so(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "squeezenet1_1_bypass")
    loaded = load_model(path)
    assert loaded.arch == "squeezenet1_1"
    assert "no bypass: a simple bypass leaves no trace in the weights (--arch squeezenet1_1_bypass)" in loaded.assumptions
    named = load_model(path, LoadOptions(arch="squeezenet1_1_bypass"))
    assert named.arch == "squeezenet1_1_bypass" and not any("bypass" in line for line in named.assumptions)
    assert [n.name for n in named.graph.nodes if isinstance(n.op, Add)] == ["fire3.add", "fire5.add", "fire7.add", "fire9.add"]


def test_a_bypass_convolution_has_no_relu_and_the_sum_none_either(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "squeezenet1_1_complex_bypass")
    loaded = load_model(path)
    assert loaded.arch == "squeezenet1_1_complex_bypass"
    lowered = passes.lower(loaded.graph, loaded.preprocess)
    conv, total = lowered["fire2.bypass"].op, lowered["fire2.add"].op
    assert isinstance(conv, Conv) and not conv.relu and isinstance(total, Add) and not total.relu


def test_broken_batch_normalization_is_refused(tmp_path: Path) -> None:
    name = SMALL + ",batch_norm=true"
    path, model = saved(tmp_path, name)
    state = dict(model.state_dict())
    for change, wanted in (
        ({"features.4.squeeze_bn.running_var": torch.full((2,), -1.0)}, "layer fire2.squeeze_bn: a running_var is negative"),
        ({"features.4.squeeze_bn.weight": torch.ones(7)}, "layer fire2.squeeze_bn.weight is 7, expected 2"),
        ({"features.0.bias": torch.ones(3)}, "layer conv1.bias is 3, expected 64"),
    ):
        torch.save(state | change, path)
        with pytest.raises(InputError, match=wanted):
            load_model(path, LoadOptions(arch=name))
    del state["features.1.running_mean"]
    torch.save(state, path)
    with pytest.raises(InputError, match=r"layer conv1_bn.running_mean \(torchvision: features.1.running_mean\) is missing, expected 64"):
        load_model(path, LoadOptions(arch=name))


# ---------------------------------------------------------------- machines


def export(tmp_path: Path, name: str, size: int, fps: float) -> Path:
    path, _ = saved(tmp_path, name)
    out = tmp_path / "out"
    pipeline.export(path, out, "random", ExportConfig(arch=name, input_size=size, target_fps=fps))
    return out


def test_a_small_member_with_every_bypass_exports_and_reports_its_fifos(tmp_path: Path) -> None:
    out = export(tmp_path, SMALL + ",bypass=complex,batch_norm=true", 24, 20_000.0)
    opened = pipeline.open_export(out)
    plan = pipeline.open_plan(opened)
    rows = {r.name for r in memory_rows(plan, opened.qgraph)}
    assert {f"fire{n}.bypass.fifo" for n in range(2, 10)} <= rows and {f"fire{n}.bypass.weights" for n in (2, 4, 6, 8)} <= rows
    from fpga_squeeze.verify.checks import check_simulators

    assert all(row.ok for row in check_simulators(opened.qgraph, plan, np.zeros((1, *opened.qgraph.input.shape), np.uint8)))


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["verilator", "icarus"])
@pytest.mark.parametrize("name", MEMBERS)
def test_every_member_is_exact_at_full_depth_in_hls_and_on_both_simulators(name: str, simulator: str, tmp_path: Path) -> None:
    require(simulator)
    # Icarus is slower by far: one frame (the interval takes two) through a machine that is done in few cycles.
    fast = simulator == "verilator"
    out = export(tmp_path, name, 21 if "1_0" in name else 17, 8000.0 if fast else 60_000.0)
    result = jobs.verify(out, VerifyOptions(hls=fast, rtl=True, onnx=fast, simulator=simulator, frames=None if fast else 1))
    assert result.ok, [row.describe() for row in result.checks if not row.ok] + list(result.faults)
    assert result.rtl is not None
    if not fast:
        return
    assert result.rtl.interval_cycles is not None
    # On maps of 1 to 16 pixels, where frames overlap within a Fire.
    assert result.rtl.interval_cycles <= 1.01 * result.rtl.predicted_interval_cycles


@pytest.mark.slow
@pytest.mark.parametrize("extra", [",bypass=simple", ",bypass=complex,batch_norm=true"])
def test_a_custom_member_is_exact_in_hls_and_rtl(extra: str, tmp_path: Path) -> None:
    require("verilator")
    out = export(tmp_path, SMALL + extra, 24, 20_000.0)
    result = jobs.verify(out, VerifyOptions(hls=True, rtl=True, onnx=True, stalls="none,random:1,adversarial,reset"))
    assert result.ok, [row.describe() for row in result.checks if not row.ok] + list(result.faults)


@pytest.mark.slow
def test_simple_bypass_at_224_on_verilator(tmp_path: Path, data_dir: Path) -> None:
    require("verilator")
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((data_dir / "images").iterdir())[:16]:
        (few / path.name).symlink_to(path)
    out = tmp_path / "out"
    pipeline.export(data_dir / "squeezenet1_1_imagenet.pt", out, str(few), ExportConfig(arch="squeezenet1_1_bypass", golden_frames=3))
    result = jobs.verify(out, VerifyOptions(rtl=True))
    assert result.ok, [row.describe() for row in result.checks if not row.ok] + list(result.faults)
    assert result.rtl is not None and result.rtl.interval_cycles == result.rtl.predicted_interval_cycles


def test_the_slow_tests_cover_every_named_member() -> None:
    assert set(MEMBERS) == {a.name for a in ARCHS} - {"squeezenet_digits"}
