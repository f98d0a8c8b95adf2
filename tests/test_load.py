"""Loading state dicts: key styles, nesting, assumptions, and one clear line for every kind of bad file."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fpga_squeeze.errors import InputError
from fpga_squeeze.ir import Conv, Graph, MaxPool
from fpga_squeeze.load import model_file
from fpga_squeeze.load.images import labelled, load_files
from fpga_squeeze.load.model import LoadedModel, LoadOptions, load_model
from fpga_squeeze.simulate.float_model import FloatModel
from fpga_squeeze.zoo.arch import ARCHS, SQUEEZENET1_0, SQUEEZENET1_1, Arch, FireSpec, conv_shapes
from fpga_squeeze.zoo.squeezenet import SqueezeNet

State = dict[str, torch.Tensor]


def state_of(name: str = "squeezenet_digits", **options: int) -> State:
    torch.manual_seed(0)
    return dict(SqueezeNet(name, **options).state_dict())


def to_paper(state: State, arch: Arch) -> State:
    return {f"{s.name}.{leaf}": state[f"{s.torchvision_prefix}.{leaf}"] for s in conv_shapes(arch) for leaf in ("weight", "bias")}


def saved(tmp_path: Path, data: object) -> Path:
    path = tmp_path / "model.pt"
    torch.save(data, path)
    return path


def error_of(path: Path, options: LoadOptions | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_model(path, options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def weight(graph: Graph, name: str) -> np.ndarray:
    op = graph[name].op
    assert isinstance(op, Conv)
    return op.weight


RECOGNISED = [a for a in ARCHS if all(f.bypass != "simple" for f in a.layers if isinstance(f, FireSpec)) or "complex" in a.name]
"""A simple bypass leaves no trace in a state dict: `auto` takes it for the plain network and says so (tests/test_family.py)."""


@pytest.mark.parametrize("arch", RECOGNISED, ids=lambda a: a.name)
def test_auto_recognises_each_arch_in_both_key_styles(tmp_path: Path, arch: Arch) -> None:
    state = state_of(arch.name, classes=7)
    for data in (state, to_paper(state, arch)):
        model = load_model(saved(tmp_path, data))
        assert (model.arch, model.classes) == (arch.name, 7)
        for shape in conv_shapes(arch):
            np.testing.assert_array_equal(weight(model.graph, shape.name), state[f"{shape.torchvision_prefix}.weight"].double().numpy())


def test_a_strangers_checkpoint(tmp_path: Path) -> None:
    paper = to_paper(state_of("squeezenet1_0", classes=10), SQUEEZENET1_0)
    model = load_model(saved(tmp_path, {"epoch": 3, "optimizer": {"lr": 0.1}, "loss": torch.tensor(0.1), "model_state_dict": paper}))
    assert (model.arch, model.classes, model.preprocess.size) == ("squeezenet1_0", 10, 224)


@pytest.mark.parametrize("wrap", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "_orig_mod.module."])
def test_nesting_and_prefixes(tmp_path: Path, wrap: str, prefix: str) -> None:
    state = state_of()
    assert load_model(saved(tmp_path, {wrap: {prefix + k: v for k, v in state.items()}})).arch == "squeezenet_digits"


def test_caffe_like_names_and_old_file_format(tmp_path: Path) -> None:
    paper = to_paper(state_of("squeezenet1_1"), SQUEEZENET1_1)
    caffe = {k.replace(".squeeze.", "/squeeze1x1.").replace(".expand", "/expand"): v for k, v in paper.items()}
    path = tmp_path / "old.pth"
    torch.save(caffe, path, _use_new_zipfile_serialization=False)
    assert load_model(path).arch == "squeezenet1_1"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_width_is_taken_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {k: v.to(dtype) for k, v in state_of().items()}
    model = load_model(saved(tmp_path, state))
    np.testing.assert_array_equal(weight(model.graph, "conv1"), state["features.0.weight"].double().numpy())


def test_non_contiguous_tensors(tmp_path: Path) -> None:
    state = state_of()
    state["features.0.weight"] = state["features.0.weight"].to(memory_format=torch.channels_last)
    assert load_model(saved(tmp_path, state)).arch == "squeezenet_digits"


def test_assumptions_are_listed_and_options_settle_them(tmp_path: Path) -> None:
    path = saved(tmp_path, state_of("squeezenet1_0"))
    said = " | ".join(load_model(path).assumptions)
    for part in ("squeezenet1_0", "pool1, pool4, pool8", "ceil_mode=True", "conv10 padding 0", "3x224x224", "torchvision", "stride 2"):
        assert part in said
    model = load_model(path, LoadOptions("squeezenet1_0", 230, False, 1, "caffe"))
    assert len(model.assumptions) == 1 and model.assumptions[0].startswith("strides and pooling")
    assert model.preprocess.order == "BGR" and model.graph.input.shape == (3, 230, 230)
    conv10, pool = model.graph["conv10"].op, model.graph["pool1"].op
    assert isinstance(conv10, Conv) and conv10.padding == (1, 1, 1, 1)
    assert isinstance(pool, MaxPool) and pool.padding == (0, 0, 0, 0)


def test_caffe_means_227(tmp_path: Path) -> None:
    assert load_model(saved(tmp_path, state_of("squeezenet1_0")), LoadOptions(preprocess="caffe")).graph.input.shape == (3, 227, 227)


def test_node_names_are_the_papers(tmp_path: Path) -> None:
    names = [n.name for n in load_model(saved(tmp_path, state_of("squeezenet1_1"))).graph.nodes]
    assert names[:4] == ["image", "conv1", "conv1.relu", "pool1"]
    for name in ("fire2.squeeze", "fire2.expand1x1.relu", "fire2.concat", "pool3", "pool5", "dropout", "conv10"):
        assert name in names
    assert names[-1] == "pool10"


class Boom:
    """Creates a file when unpickled by an unwary reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_code_is_never_run(tmp_path: Path) -> None:
    state: dict[str, object] = {**state_of(), "extra": Boom(tmp_path / "ran")}
    text = error_of(saved(tmp_path, state))
    assert "holds code or objects (posix.system)" in text
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps({"a": Boom(tmp_path / "ran")}))
    assert "plain.pt" in error_of(plain)
    assert not (tmp_path / "ran").exists()


def test_a_whole_module_is_refused_with_the_remedy(tmp_path: Path) -> None:
    assert "model.state_dict()" in error_of(saved(tmp_path, SqueezeNet("squeezenet_digits")))


def test_a_torchscript_archive_without_a_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("script/constants.pkl", pickle.dumps(()))
        archive.writestr("script/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("script/version", "3\n")
    assert "the archive holds no scripted module" in error_of(path)


@pytest.mark.parametrize("content", [b"", b"hello, I am no model\n" * 50, b"\x80\x02", b"PK\x03\x04junk", b"\x00" * 4096, b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_no_models(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    assert str(path) in error_of(path)


def test_truncated_at_any_point(tmp_path: Path) -> None:
    whole = saved(tmp_path, state_of()).read_bytes()
    path = tmp_path / "cut.pt"
    for fraction in (0.001, 0.01, 0.3, 0.6, 0.9, 0.99, 0.9999):
        path.write_bytes(whole[: max(1, int(len(whole) * fraction))])
        assert "cut.pt" in error_of(path)


def test_flipped_bytes_give_one_line_or_load(tmp_path: Path) -> None:
    whole = bytearray(saved(tmp_path, state_of()).read_bytes())
    rng = np.random.default_rng(3)
    path = tmp_path / "flipped.pt"
    for _ in range(40):
        damaged = bytearray(whole)
        for position in rng.integers(0, 3000, 4):
            damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            load_model(path)
        except InputError as error:
            assert "\n" not in str(error)


def test_missing_file_folder_and_size_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such file" in error_of(tmp_path / "none.pt")
    assert "not a regular file" in error_of(tmp_path)
    assert "cannot be read" in error_of(tmp_path / ("x" * 300))
    path = saved(tmp_path, state_of())
    monkeypatch.setattr(model_file, "MAX_FILE_BYTES", 1000)
    assert "at most 1000 bytes" in error_of(path)


def test_zip_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data/0", b"\0" * 3_000_000)
    monkeypatch.setattr(model_file, "MAX_FILE_BYTES", 1_000_000)
    assert "unpacks to 3000000 bytes" in error_of(path)


@pytest.mark.parametrize("data", [[1, 2], torch.zeros(3), {}, {"state_dict": {}}, {"state_dict": 3}, {"a": 1}, {"model": {"model": {"model": {}}}}])
def test_containers_that_hold_no_state_dict(tmp_path: Path, data: object) -> None:
    assert "expected" in error_of(saved(tmp_path, data))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_name_the_layer_and_count(tmp_path: Path, value: float) -> None:
    state = state_of()
    state["features.2.squeeze.weight"].view(-1)[:5] = value
    assert "layer fire2.squeeze: 5 of 128 weight values are NaN or infinite" in error_of(saved(tmp_path, state))


def test_first_differing_layer_is_named_with_both_shapes(tmp_path: Path) -> None:
    state = state_of("squeezenet1_1")
    state["features.4.expand3x3.weight"] = torch.zeros(64, 16, 5, 5)
    state["features.9.squeeze.bias"] = torch.zeros(3)
    assert "nearest is squeezenet1_1: layer fire3.expand3x3.weight is 64x16x5x5, expected 64x16x3x3" in error_of(saved(tmp_path, state))


def test_missing_and_unknown_layers(tmp_path: Path) -> None:
    state = state_of("squeezenet1_1")
    gone = {k: v for k, v in state.items() if k != "features.3.squeeze.bias"}
    assert "layer fire2.squeeze.bias (torchvision: features.3.squeeze.bias) is missing, expected 16" in error_of(saved(tmp_path, gone))
    extra = {**state, "attention.weight": torch.zeros(4)}
    assert "unknown layer 'attention.weight' (1 such in all)" in error_of(saved(tmp_path, extra))
    foreign = {"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)}
    assert "fits no known arch" in error_of(saved(tmp_path, foreign)) and "layer1.0.conv1.weight (64x64x3x3)" in error_of(saved(tmp_path, foreign))


def test_wrong_arch_option(tmp_path: Path) -> None:
    path = saved(tmp_path, state_of("squeezenet1_1"))
    assert "squeezenet1_0: layer conv1.weight is 64x3x3x3, expected 96x3x7x7" in error_of(path, LoadOptions(arch="squeezenet1_0"))
    assert "unknown arch 'resnet'" in error_of(path, LoadOptions(arch="resnet"))


def test_integers_scalars_odd_channels_and_doubles(tmp_path: Path) -> None:
    state = state_of()
    assert "conv1: the weight is int8" in error_of(saved(tmp_path, {**state, "features.0.weight": state["features.0.weight"].to(torch.int8)}))
    assert "a single number" in error_of(saved(tmp_path, {**state, "features.0.bias": torch.tensor(1.0)}))
    assert "1 or 3 input channels" in error_of(saved(tmp_path, {**state, "features.0.weight": torch.zeros(16, 4, 3, 3)}))
    assert "is stored twice" in error_of(saved(tmp_path, {**state, "conv1.weight": state["features.0.weight"]}), LoadOptions("squeezenet_digits"))
    sparse = {**state, "features.0.weight": state["features.0.weight"].reshape(16, 1, 3, 3).to_sparse()}
    assert "conv1" in error_of(saved(tmp_path, sparse))


def test_a_small_storage_cannot_claim_a_large_tensor(tmp_path: Path) -> None:
    state = state_of()
    state["classifier.1.weight"] = torch.zeros(1).expand(10_000_000, 96, 1, 1)
    state["classifier.1.bias"] = torch.zeros(1).expand(10_000_000)
    assert "1 to 65536 classes" in error_of(saved(tmp_path, state))


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (LoadOptions(input_size=0), "--input-size is 0, expected 1 to 2048"),
        (LoadOptions(input_size=99_999), "--input-size"),
        (LoadOptions(input_size=3), "use a larger --input-size"),
        (LoadOptions(conv10_padding=-1), "--conv10-padding is -1, expected 0 to 3"),
        (LoadOptions(preprocess="imagenet"), "neither a preset"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: LoadOptions, part: str) -> None:
    assert part in error_of(saved(tmp_path, state_of()), options)


def load_real(name: str, preprocess: str | None) -> tuple[Path, LoadedModel]:
    root = os.environ.get("FPGA_SQUEEZE_DATA")
    if root is None:
        pytest.skip("needs FPGA_SQUEEZE_DATA, the folder of ImageNet weights and photographs")
    return Path(root), load_model(Path(root) / name, LoadOptions(preprocess=preprocess))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "preprocess", "top1", "top5"), [("squeezenet1_1_imagenet.pt", None, 64.5, 89.0), ("squeezenet1_0_imagenet.pt", "caffe", 63.0, 84.5)]
)
def test_float_accuracy_on_photographs(name: str, preprocess: str | None, top1: float, top5: float) -> None:
    root, model = load_real(name, preprocess)
    pairs = labelled(root / "images")
    pixels = load_files(tuple(p for p, _ in pairs), model.preprocess).pixels
    float_model = FloatModel(model.graph)
    scores = torch.cat([float_model.run(model.preprocess.normalize(pixels[i : i + 8])) for i in range(0, len(pixels), 8)])
    labels = torch.tensor([label for _, label in pairs])
    best = scores.topk(5).indices
    assert 100 * float((best[:, 0] == labels).double().mean()) == pytest.approx(top1)
    assert 100 * float((best == labels[:, None]).any(1).double().mean()) == pytest.approx(top5)
