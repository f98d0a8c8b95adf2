"""`train --data`: folders, seeds, resume after a kill, several processes, and what `export` makes of the result."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import RunCli
from PIL import Image

from fpga_squeeze import pipeline
from fpga_squeeze.config import ExportConfig
from fpga_squeeze.errors import InputError
from fpga_squeeze.load.images import labelled
from fpga_squeeze.load.model import LoadOptions, load_model
from fpga_squeeze.load.preprocess import preset
from fpga_squeeze.load.state_dict import read_tensors
from fpga_squeeze.parallel import Group, environment
from fpga_squeeze.quantize.qgraph import QConv
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.train.data import Augmentation, Pictures, batches, epoch_order, read_folder, split
from fpga_squeeze.train.fold import new_model
from fpga_squeeze.train.step import FloatNetwork, dropout_mask
from fpga_squeeze.zoo import embedded_images, embedded_model_path
from fpga_squeeze.zoo.arch import find_arch
from fpga_squeeze.zoo.squeezenet import SqueezeNet, parameter_count

ARCH = find_arch("squeezenet_digits")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in the processes that tests start: the same number of threads gives the same bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def folders(target: Path, which: str, classes: int = 10) -> Path:
    """The embedded digits in class sub-folders."""
    for path, label in labelled(embedded_images(which)):
        if label < classes:
            (target / f"digit{label}").mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / f"digit{label}")
    return target


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 digits in ten class folders; tests must not change it."""
    return folders(tmp_path_factory.mktemp("data") / "train", "calibration")


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 other digits."""
    return folders(tmp_path_factory.mktemp("data") / "val", "test")


def weights(out: Path) -> dict[str, torch.Tensor]:
    found = torch.load(out / "model.pt", weights_only=True)["state_dict"]
    assert isinstance(found, dict)
    return found


def same(a: Path, b: Path) -> bool:
    return all(torch.equal(value, weights(b)[key]) for key, value in weights(a).items())


def distance(a: Path, b: Path) -> float:
    return max(float((value - weights(b)[key]).abs().max()) for key, value in weights(a).items())


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fpga_squeeze", *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False)


SHORT = ("--batch-size", 20, "--epochs", 12)
FAST = ("--batch-size", 32, "--augment", "crop")
INIT = ("--init", embedded_model_path(), *FAST)


def test_float_training_learns_and_writes_everything(data: Path, val: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "out"
    done = run_cli("train", "--data", data, "--val", val, "--arch", ARCH.name, "--lr", 0.004, "--augment", "none", *SHORT, "-o", out, "--json")
    assert done.code == 0 and done.err == "", "progress goes to terminals only"
    body = json.loads(done.out)
    assert (body["parameters"], body["new_head"], body["processes"], body["train_count"], body["val_count"]) == (parameter_count(ARCH), True, 1, 100, 100)
    assert body["steps"] == 12 * 5 and body["bytes_per_step"] == 0
    with (out / "train_log.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(r["epoch"]) for r in rows] == list(range(1, 13))
    assert float(rows[-1]["train_loss"]) < 0.9 * float(rows[0]["train_loss"]) and float(rows[-1]["lr"]) < 0.05 * 0.004
    assert (out / "labels.txt").read_text().splitlines() == [f"digit{c}" for c in range(10)]
    assert sorted(p.name for p in out.iterdir()) == ["checkpoint.pt", "labels.txt", "model.pt", "train_log.csv"]
    # plain PyTorch reads the weights, and they are what was validated
    module = SqueezeNet(ARCH)
    module.load_state_dict(weights(out))
    module.eval()
    folder = read_folder("--val", val)
    preprocess = preset("digits", 28, 1)
    pixels, labels = next(batches(Pictures(folder.samples, preprocess), [[(-1, i) for i in range(100)]], 0))
    with torch.no_grad():
        right = module(preprocess.normalize(pixels)).argmax(1).numpy() == labels
    assert 100.0 * right.mean() == body["val_top1"]


def test_qat_model_exports_exactly_as_trained(data: Path, val: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "out"
    done = run_cli(
        "train", "--data", data, "--val", val, *INIT, "--qat", "--weight-bits", 4, "--act-bits", 6, "--epochs", 3, "--format-epochs", 2, "-o", out, "--json"
    )
    assert done.code == 0
    body = json.loads(done.out)
    assert body["new_head"] is False and body["val_top1"] > 80
    loaded = load_model(out / "model.pt")
    assert loaded.prescribed is not None and loaded.arch == ARCH.name and loaded.preprocess == preset("digits", 28, 1)
    export = tmp_path / "export"
    assert run_cli("export", out / "model.pt", "-o", export, "--target-fps", 2000).code == 0
    opened = pipeline.open_export(export)
    convolutions = [n for n in opened.qgraph.nodes if isinstance(n.op, QConv)]
    assert {n.op.weight_bits for n in convolutions if isinstance(n.op, QConv)} == {4} and {n.fmt.bits for n in convolutions} == {6}
    evaluation = run_cli("evaluate", export, val, "--json")
    assert json.loads(evaluation.out)["fixed"]["top1"] == body["val_top1"], "training measured the machine itself"
    # export again from its own build.toml: the widths and the preprocessing it names are those trained with
    assert "weight_bits = 4\nact_bits = 6" in (export / "model/build.toml").read_text()
    again = run_cli("export", out / "model.pt", "-o", tmp_path / "again", "--config", export / "model/build.toml")
    assert again.code == 0 and (tmp_path / "again/model/weights.npz").read_bytes() == (export / "model/weights.npz").read_bytes()


def test_options_that_contradict_the_trained_formats(data: Path, tmp_path: Path, run_cli: RunCli) -> None:
    assert run_cli("train", "--data", data, *INIT, "--qat", "--epochs", 1, "-o", tmp_path / "m").code == 0
    model = tmp_path / "m/model.pt"
    for options, message in ((("--weight-bits", 4), "brings its number formats along"), (("--preprocess", "none"), "trained with digits; leave")):
        result = run_cli("export", model, "-o", tmp_path / "out", *options)
        assert result.code == 2 and message in result.err and not (tmp_path / "out").exists()
    # a fully convolutional net takes another size with the same formats
    other = load_model(model, LoadOptions(input_size=40))
    assert other.preprocess.size == 40 and other.prescribed == load_model(model).prescribed


@pytest.mark.parametrize("qat", [(), ("--qat", "--weight-bits", 4)])
def test_same_seed_same_weights(qat: tuple[object, ...], data: Path, tmp_path: Path, run_cli: RunCli) -> None:
    for name, seed, workers in (("a", 5, 0), ("b", 5, 2), ("c", 6, 0)):
        torch.manual_seed(seed * 7 + workers)  # what ran before must not matter
        options = ("--epochs", 2, "--seed", seed, "--workers", workers, "-o", tmp_path / name)
        assert run_cli("train", "--data", data, *INIT, *qat, *options).code == 0
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "a/model.pt").read_bytes() == (tmp_path / "b/model.pt").read_bytes()


@pytest.mark.parametrize("qat", [(), ("--qat", "--weight-bits", 4, "--format-epochs", 3)])
def test_kill_and_resume_lose_nothing(qat: tuple[object, ...], data: Path, val: Path, tmp_path: Path, run_cli: RunCli) -> None:
    arguments = ["train", "--data", data, "--val", val, "--init", embedded_model_path(), *qat, "--batch-size", 10, "--epochs", 10, "--checkpoint-steps", 3]
    assert run_cli(*arguments, "-o", tmp_path / "whole").code == 0
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "fpga_squeeze", *map(str, arguments), "-o", str(killed)]
    seen = []
    for attempt in range(2):  # killed twice: early, then a little later
        with subprocess.Popen([*command, "--resume"], env=ENVIRONMENT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and process.poll() is None and not passed(killed, (0, 3) if attempt == 0 else (1, 6)):
                time.sleep(0.02)
            assert process.poll() is None, "the training ended before it could be killed"
            process.send_signal(signal.SIGKILL)
        seen.append(position(killed))
    assert (0, 0) < seen[0] <= seen[1] < (10, 0)
    done = run_cli(*arguments, "-o", killed, "--resume", "--json")
    assert done.code == 0
    assert 0 < json.loads(done.out)["steps"] < 100, "only what was left is done"
    assert same(tmp_path / "whole", killed)
    log = [[row[:-1] for row in csv.reader((tmp_path / name / "train_log.csv").open(newline=""))] for name in ("whole", "killed")]
    assert log[0] == log[1] and len(log[0]) == 11, "all but the seconds"
    # a finished training is resumed to itself
    assert json.loads(run_cli(*arguments, "-o", killed, "--resume", "--json").out)["steps"] == 0


def position(out: Path) -> tuple[int, int]:
    """(epoch, step) of the checkpoint; (0, 0) where there is none yet."""
    if not (out / "checkpoint.pt").is_file():
        return 0, 0
    body = torch.load(out / "checkpoint.pt", weights_only=True)
    return body["epoch"], body["step"]


def passed(out: Path, wanted: tuple[int, int]) -> bool:
    return position(out) >= wanted


def test_a_checkpoint_is_never_half_written(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli) -> None:
    out = tmp_path / "out"
    arguments = ("train", "--data", data, *INIT, "--epochs", 2, "-o", out)
    assert run_cli(*arguments).code == 0
    before = (out / "checkpoint.pt").read_bytes()

    def full(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    result = run_cli(*arguments, "--resume")
    assert result.code == 2 and "cannot be written (No space left on device)" in result.err
    assert (out / "checkpoint.pt").read_bytes() == before and not list(out.glob(".*"))


def test_resume_refuses_another_training(data: Path, val: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out = tmp_path / "out"
    arguments = ("train", "--data", data, *INIT, "--epochs", 1, "-o", out)
    assert run_cli(*arguments, "--resume").code == 0, "nothing to resume is a beginning"
    result = run_cli(*arguments)
    assert result.code == 2 and "--resume continues it" in result.err
    for other, message in (
        (("--lr", 0.5), "made with --lr 0.001, now it is 0.5"),
        (("--epochs", 3), "made with --epochs 1, now it is 3"),
        (("--qat",), "made with --qat False, now it is True"),
        (("--val", val), "made with --val (digest) none"),
        (("--data", val), "made with --data (digest)"),
    ):
        result = run_cli(*arguments, *other, "--resume")
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1
    content = (out / "checkpoint.pt").read_bytes()
    for damaged in (content[:1000], b"", b"nothing"):
        (out / "checkpoint.pt").write_bytes(damaged)
        result = run_cli(*arguments, "--resume")
        assert result.code == 2 and "is damaged or no checkpoint" in result.err and result.err.count("\n") == 1


def test_another_number_of_classes_gets_a_new_head(tmp_path: Path, run_cli: RunCli) -> None:
    three = folders(tmp_path / "three", "calibration", classes=3)
    done = run_cli("train", "--data", three, *INIT, "--val", "split:0.3", "--epochs", 4, "--lr", 0.003, "-o", tmp_path / "out", "--json")
    body = json.loads(done.out)
    assert body["new_head"] is True and body["arch"] == ARCH.name and (body["train_count"], body["val_count"]) == (21, 9)
    loaded = load_model(tmp_path / "out/model.pt")
    assert loaded.classes == 3 and load_model(embedded_model_path()).classes == 10
    tensors = read_tensors(embedded_model_path())
    model, replaced = new_model(ARCH, 3, 1, tensors)
    assert replaced and torch.equal(model.state_dict()["features.0.weight"], tensors["features.0.weight"])
    assert not new_model(ARCH, 10, 1, tensors)[1]


def test_training_without_data_is_the_digits_and_takes_no_other_options(run_cli: RunCli, data: Path) -> None:
    for options, name in ((("--qat",), "--qat"), (("--lr", 0.1), "--lr"), (("--batch-size", 3), "--batch-size"), (("--resume",), "--resume")):
        result = run_cli("train", *options)
        assert result.code == 2 and f"{name}: needs --data" in result.err
    for options, message in (
        (("--epochs", 0), "--epochs"),
        (("--lr", -1), "--lr"),
        (("--lr", "nan"), "--lr"),
        (("--batch-size", 0), "--batch-size"),
        (("--optimizer", "adam"), "adamw or sgd"),
        (("--augment", "rotate"), "none, crop, flip or crop,flip"),
        (("--val", "split:2"), "a share between 0 and 1"),
        (("--weight-bits", 1, "--qat"), "2 to 16"),
        (("--arch", "resnet50"), "unknown arch"),
        (("--init", "nothing.pt"), "no such file"),
        (("--init", embedded_model_path(), "--arch", "squeezenet1_1"), "squeezenet1_1: layer conv1"),
    ):
        result = run_cli("train", "--data", data, *options)
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1
    assert not Path("training").exists()


def test_folders_that_cannot_be_used(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match=r"--data .*: a folder with one sub-folder"):
        read_folder("--data", tmp_path / "none")
    mixed = folders(tmp_path / "mixed", "calibration", 2)
    Image.new("L", (28, 28)).save(mixed / "stray.png")
    with pytest.raises(InputError, match=r"stray.png lies outside the class sub-folders"):
        read_folder("--data", mixed)
    (mixed / "stray.png").unlink()
    (mixed / "empty").mkdir()
    with pytest.raises(InputError, match="class sub-folder empty has no images"):
        read_folder("--data", mixed)
    (mixed / "empty").rmdir()
    known = read_folder("--data", mixed)
    assert known.classes == ("digit0", "digit1") and len(known.samples) == 20
    with pytest.raises(InputError, match="digit2 is not among the 2"):
        read_folder("--val", data, known.classes)
    assert {label for _, label in read_folder("--val", mixed, ("digit1", "digit0", "x")).samples} == {0, 1}
    kept, held = split(known, 0.25)
    assert len(held.samples) == 4 and not set(kept.samples) & set(held.samples) and len(kept.samples) == 16
    assert split(known, 0.25) == (kept, held)
    with pytest.raises(InputError, match="leaves nothing"):
        split(known, 0.01)


def test_a_damaged_picture_is_named(data: Path, tmp_path: Path, run_cli: RunCli) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    victim = sorted(copy.glob("*/*.png"))[42]
    victim.write_bytes(b"no picture")
    for workers in (0, 1):
        result = run_cli("train", "--data", copy, *INIT, "--workers", workers, "-o", tmp_path / "out")
        assert result.code == 2 and victim.name in result.err and "remove or mend it" in result.err and result.err.count("\n") == 1


def test_augmentation_depends_on_seed_epoch_and_picture_alone(data: Path) -> None:
    folder = read_folder("--data", data)
    preprocess = preset("digits", 28, 1)
    pictures = Pictures(folder.samples, preprocess, Augmentation(crop=True, flip=True), seed=3)
    once = pictures[2, 17][0]
    assert once is not None and once.shape == (1, 28, 28)
    assert np.array_equal(once, pictures[2, 17][0])  # type: ignore[arg-type]
    looks = {pictures[epoch, 17][0].tobytes() for epoch in range(8)}  # type: ignore[union-attr]
    assert len(looks) == 8
    plain = Pictures(folder.samples, preprocess)
    assert np.array_equal(plain[-1, 17][0], preprocess.pixels(folder.samples[17][0]))  # type: ignore[arg-type]
    flipped = {Pictures(folder.samples, preprocess, Augmentation(flip=True))[e, 17][0].tobytes() for e in range(20)}  # type: ignore[union-attr]
    assert flipped == {plain[-1, 17][0].tobytes(), plain[-1, 17][0][:, :, ::-1].tobytes()}  # type: ignore[union-attr,index]
    orders = [epoch_order(100, 1, e).tolist() for e in (0, 1)]
    assert sorted(orders[0]) == list(range(100)) and orders[0] != orders[1] == epoch_order(100, 1, 1).tolist()


def test_dropout_masks_do_not_depend_on_the_split() -> None:
    whole = dropout_mask((8, 3, 3), 0.5, 10, slice(0, 10), (1, 2, 3))
    assert whole is not None and set(whole.unique().tolist()) == {0.0, 2.0} and 0.4 < float((whole > 0).float().mean()) < 0.6
    parts = [dropout_mask((8, 3, 3), 0.5, 10, part, (1, 2, 3)) for part in (slice(0, 4), slice(4, 10))]
    assert torch.equal(torch.cat([p for p in parts if p is not None]), whole)
    other = dropout_mask((8, 3, 3), 0.5, 10, slice(0, 10), (1, 2, 4))
    assert other is not None and not torch.equal(other, whole)
    assert dropout_mask((8, 3, 3), 0.0, 10, slice(0, 10), (1, 2, 3)) is None
    # and the masked module is the network: without a mask as in eval mode, with ones too
    torch.manual_seed(0)
    model = SqueezeNet("squeezenet1_1", classes=4).eval()
    x = torch.randn(2, 3, 32, 32)
    expected = model(x)
    network = FloatNetwork(model).train()
    assert torch.equal(network(x).rectified, expected)
    assert not torch.equal(network(x, dropout_mask((512, 1, 1), 0.5, 2, slice(0, 2), (0, 0, 0))).rectified, expected)
    assert set(model.state_dict()) == set(SqueezeNet("squeezenet1_1", classes=4).state_dict())


def test_two_processes_train_the_weights_of_one(data: Path, val: Path, tmp_path: Path, run_cli: RunCli) -> None:
    # 100 = 3 x 33 + 1: the last batch has one picture, the second process none
    arguments = ["train", "--data", data, "--val", val, "--init", embedded_model_path(), "--batch-size", 33, "--epochs", 2, "--json"]
    one = json.loads(run_cli(*arguments, "-o", tmp_path / "one").out)
    done = torchrun(*arguments, "-o", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout)  # one JSON object: only one process speaks
    assert 0.0 < distance(tmp_path / "one", tmp_path / "two") < 1e-4 or same(tmp_path / "one", tmp_path / "two")
    assert two["processes"] == 2 and two["steps"] == one["steps"] == 8
    assert two["bytes_per_step"] == 4 * two["parameters"] == 4 * parameter_count(ARCH)
    assert (two["val_top1"], two["val_top5"]) == (one["val_top1"], one["val_top5"])
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
    before = torch.load(embedded_model_path(), weights_only=True)
    moved = max(float((value - before[key]).abs().max()) for key, value in weights(tmp_path / "one").items())
    assert moved > 1e-3, "the tolerance is far below what training changes"


def test_two_processes_take_the_same_quantized_step(data: Path, tmp_path: Path, run_cli: RunCli) -> None:
    # one step: afterwards a weight that lies on a rounding boundary may fall to either side
    arguments = ["train", "--data", data, "--init", embedded_model_path(), "--qat", "--weight-bits", 4, "--optimizer", "sgd", "--lr", 0.05]
    arguments += ["--batch-size", 100, "--epochs", 1]
    assert run_cli(*arguments, "-o", tmp_path / "one").code == 0
    done = torchrun(*arguments, "-o", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-5
    assert "93,320 bytes of gradients a step" in done.stdout
    formats = [load_model(tmp_path / name / "model.pt").prescribed for name in ("one", "two")]
    assert formats[0] == formats[1] is not None


def test_two_processes_evaluate_to_the_counts_of_one(val: Path, digits_out: Path, tmp_path: Path, run_cli: RunCli) -> None:
    out, images = tmp_path / "out", tmp_path / "val"
    shutil.copytree(digits_out, out)
    shutil.copytree(val, images)
    for index in (3, 4, 50):
        sorted(images.glob("*/*.png"))[index].write_bytes(b"no picture")
    one: dict[str, Any] = json.loads(run_cli("evaluate", out, images, "--limit", 75, "--json").out)
    written = (out / "report/accuracy.json").read_bytes()
    (out / "report/accuracy.json").unlink()
    done = torchrun("evaluate", out, images, "--limit", 75, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == one and one["count"] == 72 and len(one["skipped"]) == 3
    assert (out / "report/accuracy.json").read_bytes() == written


def test_environment_as_torchrun_sets_it(monkeypatch: pytest.MonkeyPatch, run_cli: RunCli, tmp_path: Path) -> None:
    assert environment() == Group()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert environment() == Group(), "half an environment is none"
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    group = environment()
    assert group == Group(1, 3, 1) and not group.is_writer and list(group.share(range(8))) == [1, 4, 7]
    result = run_cli("train", "-o", tmp_path / "digits.pt")
    assert result.code == 2 and "trained by one process" in result.err
    for rank in ("3", "-1", "one"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(InputError, match="as torchrun sets them"):
            environment()


def test_model_files_that_lie(data: Path, tmp_path: Path, run_cli: RunCli) -> None:
    assert run_cli("train", "--data", data, *INIT, "--qat", "--epochs", 1, "-o", tmp_path / "m").code == 0
    good = torch.load(tmp_path / "m/model.pt", weights_only=True)
    body = good["fpga_squeeze"]
    assert set(body) == {"version", "arch", "preprocess", "classes", "prescribed"}
    formats = json.loads(body["prescribed"])
    less = json.dumps({**formats, "weights": {k: v for k, v in formats["weights"].items() if k != "fire3.squeeze"}})
    for changes, message in (
        ({"version": 2}, "version 1 was expected"),
        ({"arch": "resnet"}, "unknown arch"),
        ({"arch": 3}, "arch must be text"),
        ({"code": "import os"}, "unknown key 'code'"),
        ({"classes": "abc"}, "classes must be a list"),
        ({"preprocess": "{}"}, "preprocess: the field 'name' is missing"),
        ({"preprocess": preset("torchvision", 28, 3).to_json()}, "was trained on 3 channels"),
        ({"prescribed": "[]"}, "prescribed: a JSON object of version 1"),
        ({"prescribed": less}, "layer fire3.squeeze: no weight scales are prescribed"),
    ):
        torch.save({"state_dict": good["state_dict"], "fpga_squeeze": {**body, **changes}}, tmp_path / "bad.pt")
        result = run_cli("export", tmp_path / "bad.pt", "-o", tmp_path / "out")
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_real_weights_get_a_new_head(data_dir: Path, data: Path, tmp_path: Path, run_cli: RunCli) -> None:
    source = data_dir / "squeezenet1_1_imagenet.pt"
    done = run_cli("train", "--data", data, "--init", source, "--input-size", 32, "--epochs", 1, "--batch-size", 50, "-o", tmp_path / "f", "--json")
    body = json.loads(done.out)
    assert (body["arch"], body["new_head"], body["parameters"]) == ("squeezenet1_1", True, parameter_count(find_arch("squeezenet1_1"), classes=10))
    done = run_cli("train", "--data", data, "--init", tmp_path / "f/model.pt", "--qat", "--weight-bits", 4, "--epochs", 1, "-o", tmp_path / "q")
    assert done.code == 0
    found = pipeline.quantize_model(tmp_path / "q/model.pt", None, ExportConfig())
    assert found.loaded.preprocess == preset("torchvision", 32, 3)
    assert FastSimulator(found.qgraph).run(found.images.pixels).any()
