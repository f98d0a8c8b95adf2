"""Options: ranges, build.toml there and back, clear refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fpga_squeeze.config import ExportConfig, load_config, parse_layer_bits
from fpga_squeeze.errors import InputError


def test_toml_there_and_back(tmp_path: Path) -> None:
    config = ExportConfig(arch="squeezenet1_1", input_size=227, ceil_mode=False, weight_bits=6, layer_bits=(("conv1", 8), ("fire2.squeeze", 4)), device="kv260")
    path = tmp_path / "build.toml"
    path.write_text(config.to_toml())
    assert load_config(path) == config


def test_preprocess_file_is_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_text('preprocess = "preprocess.json"\n')
    assert load_config(tmp_path / "build.toml").preprocess == str(tmp_path / "preprocess.json")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("weight_bits = 1", "2 to 16 was expected, got 1"),
        ("weight_bits = true", "weight_bits takes int"),
        ("act_bits = 'x'", "act_bits takes int"),
        ("bits = 3", "unknown key 'bits'"),
        ("[layer_bits]\nconv1 = 'a'", "layer_bits"),
        ("= 3", "not valid TOML"),
        ("target_fps = -1", "above 0"),
        ("clock_mhz = nan", "above 0"),
        ("top = '../x'", "identifier"),
    ],
)
def test_bad_config_is_one_line(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "b.toml").write_text(text)
    with pytest.raises(InputError, match=match) as caught:
        load_config(tmp_path / "b.toml")
    assert "\n" not in str(caught.value)


def test_missing_config(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize("option", [{"weight_bits": 17}, {"act_bits": 3}, {"input_size": 4}, {"golden_frames": 0}, {"layer_bits": (("a", 1),)}])
def test_ranges(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="was expected, got"):
        ExportConfig(**option)


@pytest.mark.parametrize("item", ["conv1", "=4", "conv1=", "conv1=x", "conv1=-2"])
def test_layer_bits_syntax(item: str) -> None:
    with pytest.raises(InputError, match="NAME=BITS"):
        parse_layer_bits([item])


def test_layer_bits_twice() -> None:
    with pytest.raises(InputError, match="given twice"):
        parse_layer_bits(["a=4", "a=5"])
