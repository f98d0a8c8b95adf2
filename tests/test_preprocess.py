"""Geometry against a plain restatement of torchvision's transform, normalization, JSON and bad pictures."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fpga_squeeze.errors import InputError
from fpga_squeeze.load import preprocess as module
from fpga_squeeze.load.preprocess import Preprocess, preset, read_preprocess


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 90), height=st.integers(1, 90), resize=st.integers(1, 60), data=st.data())
def test_geometry_is_torchvisions(width: int, height: int, resize: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, resize))
    image = picture(width, height)
    new = (resize, int(resize * height / width)) if width <= height else (int(resize * width / height), resize)
    resized = np.asarray(image.resize(new, Image.Resampling.BILINEAR))
    top, left = round((new[1] - size) / 2.0), round((new[0] - size) / 2.0)
    got = Preprocess("t", resize, size, 3, "RGB", 1.0, (0.0,) * 3, (1.0,) * 3).pixels(image)
    assert got.shape == (3, size, size) and got.dtype == np.uint8 and got.flags.c_contiguous
    np.testing.assert_array_equal(got, resized[top : top + size, left : left + size].transpose(2, 0, 1))


def test_presets() -> None:
    p = preset("torchvision", 224, 3)
    assert (p.resize, p.size, p.order, p.mean) == (256, 224, "RGB", (0.485, 0.456, 0.406))
    p = preset("caffe", 227, 3)
    assert (p.resize, p.order, p.mean, p.scale) == (256, "BGR", (104.0, 117.0, 123.0), 1.0)
    assert preset("torchvision", 224, 1).mean == (0.449,)
    assert preset("none", 10, 1).order == "L"
    assert preset("digits", 28, 1).resize == 28
    with pytest.raises(InputError, match="unknown preprocessing 'tf'"):
        preset("tf", 224, 3)
    with pytest.raises(InputError, match="1 or 3 channels, got 4"):
        preset("none", 224, 4)


def test_normalize_in_the_networks_order() -> None:
    raw = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    p = preset("torchvision", 4, 3)
    expected = (torch.from_numpy(raw).float() / 255 - torch.tensor(p.mean).view(3, 1, 1)) / torch.tensor(p.std).view(3, 1, 1)
    torch.testing.assert_close(p.normalize(raw), expected, rtol=1e-6, atol=1e-6)
    out = preset("caffe", 4, 3).normalize(raw)
    np.testing.assert_array_equal(out[:, 0].numpy(), raw[:, 2].astype(np.float32) - 104)
    np.testing.assert_array_equal(out[:, 2].numpy(), raw[:, 0].astype(np.float32) - 123)
    with pytest.raises(InputError, match="expected uint8 pixels"):
        p.normalize(raw[:, :1])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA", "LA", "P", "1", "YCbCr"])
def test_every_8_bit_mode_is_converted(tmp_path: Path, mode: str) -> None:
    suffix = {"CMYK": "jpg", "YCbCr": "jpg"}.get(mode, "png")
    path = tmp_path / f"picture.{suffix}"
    picture(20, 12, mode).save(path)
    for channels in (1, 3):
        assert preset("none", 10, channels).pixels(path).shape == (channels, 10, 10)


def test_grey_is_luma_and_alpha_is_dropped(tmp_path: Path) -> None:
    red = Image.new("RGBA", (8, 8), (255, 0, 0, 10))
    assert preset("none", 4, 1).pixels(red)[0, 0, 0] == 76
    assert preset("none", 4, 3).pixels(red)[:, 0, 0].tolist() == [255, 0, 0]
    palette = picture(8, 8).quantize(4)
    palette.info["transparency"] = b"\x00\x80"
    assert preset("none", 4, 3).pixels(palette).shape == (3, 4, 4)


def test_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), "black")
    image.paste("white", (0, 0, 8, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    got = Preprocess("t", 8, 8, 3, "RGB", 1.0, (0.0,) * 3, (1.0,) * 3).pixels(tmp_path / "turned.png")
    assert got[0, 0].tolist() == [255] * 8 and got[0, 7].tolist() == [0] * 8


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(9_000, 9_000), (12_000, 12_000), (60_000, 60_000)])
def test_decompression_bombs_are_refused_before_decoding(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(width, height))
    with pytest.raises(InputError, match=r"bomb\.png: the image .*64000000"):
        preset("none", 8, 3).pixels(path)


def test_a_thin_line_does_not_explode_in_the_resize() -> None:
    with pytest.raises(InputError, match="with its short side at 256 it would exceed"):
        preset("torchvision", 224, 3).pixels(Image.new("L", (2000, 1)))


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    good = tmp_path / "good.jpg"
    picture(40, 30).save(good)
    whole = good.read_bytes()
    for name, content in {"cut.jpg": whole[: len(whole) // 2], "text.jpg": b"not an image", "empty.png": b"", "short.png": png_claiming(64, 64)}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name) as caught:
            preset("none", 8, 3).pixels(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"none\.png"):
        preset("none", 8, 3).pixels(tmp_path / "none.png")


def test_16_bit_pictures_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="pixel mode I;16, expected 8 bits"):
        preset("none", 8, 3).pixels(tmp_path / "deep.png")


def test_json_there_and_back_through_a_file(tmp_path: Path) -> None:
    original = preset("caffe", 100, 3)
    path = tmp_path / "own.json"
    path.write_text(original.to_json())
    assert read_preprocess(str(path), None, 224, 3) == original == read_preprocess(str(path), 100, 224, 3)
    with pytest.raises(InputError, match="its size is 100 but --input-size says 96"):
        read_preprocess(str(path), 96, 224, 3)
    with pytest.raises(InputError, match="3 channels but the model's first layer takes 1"):
        read_preprocess(str(path), None, 224, 1)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"extra": 1}, "unknown field 'extra'"),
        ({"mean": None}, "'mean' must be a list of numbers, got null"),
        ({"mean": [1, 2]}, "mean has 2 numbers, expected 3"),
        ({"mean": [1, "x", 3]}, "'mean' must be a number"),
        ({"std": [1, 0, 1]}, "must be above 0"),
        ({"scale": -1}, "must be above 0"),
        ({"scale": True}, "'scale' must be a number"),
        ({"scale": 10**400}, "too large for a float"),
        ({"size": 28.5}, "'size' must be a whole number, got 28.5"),
        ({"size": 0}, "size is 0, expected 1 to 4096"),
        ({"resize": 2}, "resize is 2, expected the crop size 227 or more"),
        ({"order": "GRB"}, "order is 'GRB', expected one of RGB, BGR, L"),
        ({"order": "L"}, "order L has 1 channels, but channels is 3"),
        ({"name": 3}, "'name' must be text"),
    ],
)
def test_bad_preprocessing_files(change: dict[str, object], part: str) -> None:
    data = {**json.loads(preset("caffe", 227, 3).to_json()), **change}
    with pytest.raises(InputError) as caught:
        Preprocess.from_json(json.dumps(data))
    assert part in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, '{"name": "x"}', '{"scale": NaN}'])
def test_files_that_are_no_preprocessing(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"bad\.json"):
        read_preprocess(str(path), None, 224, 3)


def test_nan_is_refused() -> None:
    text = preset("none", 8, 1).to_json().replace('"scale": 1.0', '"scale": NaN')
    with pytest.raises(InputError, match="must be finite"):
        Preprocess.from_json(text)


def test_binary_and_huge_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_preprocess(str(path), None, 224, 3)
    path.write_bytes(b" " * 1_000_001)
    with pytest.raises(InputError, match="larger than 1 MB"):
        read_preprocess(str(path), None, 224, 3)
    assert module.MAX_IMAGE_PIXELS < 89_478_485  # below the size at which PIL itself begins to warn
