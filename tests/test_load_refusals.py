"""Broken, hostile and unsupported models of every format: one clear line each, exit code 2, within bounds of memory and time."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import RunCli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper
from onnx_models import Net, plain

from fpga_squeeze.errors import InputError
from fpga_squeeze.load.model import LoadOptions, load_model

Case = Callable[[Path], Path]
CASES: dict[str, tuple[Case, str]] = {}
"""Name -> (writes the file and gives its path, what the one line must say)."""


def case(says: str) -> Callable[[Case], Case]:
    def register(build: Case) -> Case:
        CASES[build.__name__] = (build, says)
        return build

    return register


def onnx_case(name: str, says: str, change: Callable[[Net], str | tuple[str, ...]], **options: object) -> None:
    """A net of `plain` to which `change` adds something bad; it gives the outputs."""

    def build(folder: Path) -> Path:
        net = plain(**options)
        outputs = change(net)
        return net.save(folder / "m.onnx", *((outputs,) if isinstance(outputs, str) else outputs))

    CASES[name] = (build, says)


def proto_case(name: str, says: str, change: Callable[[ModelProto], object]) -> None:
    """A good model, changed as a whole."""

    def build(folder: Path) -> Path:
        net = plain()
        model = net.model(net.head("pool_out", 4))
        change(model)
        (folder / "m.onnx").write_bytes(model.SerializeToString())
        return folder / "m.onnx"

    CASES[name] = (build, says)


P = "pool_out"
ROUND = np.array([0, 0, 1, 1, 0, 0, 1, 1])
onnx_case("grouped", "Conv 'g': 2 groups", lambda n: n.head(n.node("Conv", P, n.random(4, 2, 3, 3), name="g", group=2), 4))
onnx_case("depthwise", "Conv 'g': 4 groups", lambda n: n.head(n.node("Conv", P, n.random(4, 1, 3, 3), name="g", group=4), 4))
onnx_case("dilated", "Conv 'd': dilation 2x2", lambda n: n.head(n.node("Conv", P, n.random(4, 4, 2, 2), name="d", dilations=[2, 2]), 4))
onnx_case("oblong_kernel", "a 1x3 kernel; only square ones", lambda n: n.head(n.node("Conv", P, n.random(4, 4, 1, 3)), 4))
onnx_case("oblong_stride", "stride 1x2", lambda n: n.head(n.conv(P, 4, 4, 1, strides=[1, 2]), 4))
onnx_case("conv_1d", "weights of shape 4x4x3", lambda n: n.head(n.node("Conv", P, n.random(4, 4, 3)), 4))
onnx_case("kernel_shape_lies", "kernel_shape 5x5 with weights", lambda n: n.head(n.node("Conv", P, n.random(4, 4, 3, 3), kernel_shape=[5, 5]), 4))
onnx_case("channels_differ", "weights expect 3 input channels", lambda n: n.head(n.conv(P, 4, 3, 1), 4))
onnx_case("bias_too_long", "a bias of shape 5 for 4", lambda n: n.head(n.node("Conv", P, n.random(4, 4, 1, 1), n.random(5)), 4))
onnx_case("window_too_large", "a 9x9 window does not fit", lambda n: n.head(n.conv(P, 4, 4, 9), 4))
onnx_case("nan_weights", "1 of 16 weights values are NaN or infinite", lambda n: n.node(
    "Conv", P, n.const(np.where(np.arange(16) == 3, np.nan, 1.0).reshape(4, 4, 1, 1))))
onnx_case("infinite_bias", "biases values are NaN or infinite", lambda n: n.head(n.node("Conv", P, n.random(4, 4, 1, 1), n.const(np.full(4, np.inf))), 4))
onnx_case("transposed_conv", "ConvTranspose 't': no such operator", lambda n: n.head(n.node("ConvTranspose", P, n.random(4, 4, 2, 2), name="t"), 4))
onnx_case("sigmoid", "Sigmoid 's': no such operator", lambda n: n.head(n.node("Sigmoid", P, name="s"), 4))
onnx_case("leaky_relu", "LeakyRelu", lambda n: n.head(n.node("LeakyRelu", P), 4))
onnx_case("custom_domain", "an operator of the domain 'com.example'", lambda n: n.head(n.node("Relu", P, domain="com.example"), 4))
onnx_case("unknown_attribute", "unknown attribute 'zeal'", lambda n: n.head(n.node("Relu", P, zeal=3), 4))
onnx_case("attribute_of_another_kind", "'strides' is of the wrong kind", lambda n: n.head(n.node("Conv", P, n.random(4, 4, 1, 1), strides="two"), 4))
onnx_case("local_average", "averages over windows of 2x2", lambda n: n.head(n.node("AveragePool", P, kernel_shape=[2, 2]), 4))
onnx_case("mean_over_channels", "the mean over height and width was expected", lambda n: n.node("ReduceMean", P, axes=[1, 2]))
onnx_case("softmax_inside", "normalizes dimension 1", lambda n: n.head(n.node("Softmax", P, axis=1), 4))
onnx_case("behind_softmax", "nothing but the output may follow", lambda n: n.node("Relu", n.node("Softmax", n.head(P, 4), axis=1)))
onnx_case("joined_rows", "joins along dimension 2", lambda n: n.head(n.node("Concat", P, P, axis=2), 4))
onnx_case("sum_of_unlike", "adds tensors of shapes", lambda n: n.head(n.node("Add", P, n.conv(P, 3, 4, 1)), 4))
onnx_case("product_of_maps", "only adding is supported", lambda n: n.head(n.node("Mul", P, P), 4))
onnx_case("constant_a_pixel", "one number for all or one a channel", lambda n: n.head(n.node("Add", P, n.random(1, 1, 4, 4)), 4))
onnx_case("pads_with_one", "pads with 1", lambda n: n.head(n.conv(n.node("Pad", P, n.const(ROUND), n.const(np.float32(1))), 4, 4), 4))
onnx_case("reflecting_pad", "mode 'reflect'", lambda n: n.head(n.conv(n.node("Pad", P, n.const(ROUND), mode="reflect"), 4, 4), 4))
onnx_case("pad_before_relu", "may only stand before Conv or MaxPool", lambda n: n.head(n.node("Relu", n.node("Pad", P, n.const(ROUND))), 4))
onnx_case("zeros_would_win", "zeros would win", lambda n: n.head(
    n.node("MaxPool", n.node("Pad", n.conv(P, 4, 4), n.const(ROUND)), kernel_shape=[2, 2]), 4))
onnx_case("clip_from_one", "only a lower limit of 0 is a ReLU", lambda n: n.head(n.node("Clip", P, n.const(np.float32(1)), n.const(np.float32(6))), 4))
onnx_case("channel_shuffle", "cuts channels, height or width", lambda n: n.head(
    n.node("Transpose", n.node("Reshape", P, n.const(np.array([1, 2, 2, 4, 4]))), perm=[0, 2, 1, 3, 4]), 4))
onnx_case("reshape_of_another_size", "cannot take the shape", lambda n: n.node("Gemm", n.node("Reshape", P, n.const(np.array([1, 63]))), n.random(63, 5)))
onnx_case("transposed_for_conv", "in this order", lambda n: n.head(n.node("Transpose", P, perm=[0, 1, 3, 2]), 4))
onnx_case("weights_from_the_image", "its weights depend on the image", lambda n: n.head(n.node("Conv", P, P), 4))
onnx_case("pool_indices", "its second result 'i' is used", lambda n: (n.nodes.append(
    helper.make_node("MaxPool", [P], ["o", "i"], name="p", kernel_shape=[2, 2])) or n.head("o", 4), "i"))
onnx_case("two_outputs", "2 outputs", lambda n: (n.head(P, 4), P))
onnx_case("no_output", "0 outputs", lambda n: (n.head(P, 4), ())[1])
onnx_case("a_map_as_output", "class scores (one number a class) were expected", lambda n: P)
onnx_case("a_constant_as_output", "does not depend on the image", lambda n: n.random(1, 5))
onnx_case("batch_of_eight", "a batch of 8", lambda n: n.head(P, 4), shape=(8, 3, 8, 8))
onnx_case("open_height", "height and width are open; give --input-size", lambda n: n.head(P, 4), shape=("n", 3, "h", "w"))
onnx_case("oblong_image", "square images", lambda n: n.head(P, 4), shape=(1, 3, 8, 12))
onnx_case("four_channels", "1 or 3 channels were expected", lambda n: n.head(P, 4), shape=(1, 4, 8, 8))
onnx_case("video", "has 5 dimensions", lambda n: n.head(P, 4), shape=(1, 3, 4, 8, 8))
onnx_case("huge_image", "at most 4096 pixels a side", lambda n: n.head(P, 4), shape=(1, 3, 1 << 40, 1 << 40))
onnx_case("image_of_integers", "holds int64", lambda n: n.head(P, 4), elem_type=TensorProto.INT64)
onnx_case("dangling", "reads 'nowhere'", lambda n: n.head(n.node("Relu", "nowhere"), 4))
onnx_case("huge_constant", "makes a constant of shape", lambda n: n.head(
    n.node("Add", P, n.node("ConstantOfShape", n.const(np.array([1 << 20, 1 << 20])))), 4))
onnx_case("endless_range", "its range never ends", lambda n: n.node(
    "Add", n.head(P, 4), n.node("Range", n.const(np.float32(0)), n.const(np.float32(1e30)), n.const(np.float32(1e-30)))))
onnx_case("too_many_multiplications", "multiplications a frame", lambda n: n.head(
    n.conv(n.conv("x", 64, 3, 1), 64, 64, 9, pads=[4] * 4), 64), shape=(1, 3, 1000, 1000))
onnx_case("training_batchnorm", "normalizes by the batch", lambda n: n.head(
    n.node("BatchNormalization", P, *(n.const(np.ones(4)) for _ in range(4)), training_mode=1), 4))
onnx_case("negative_variance", "a variance is negative", lambda n: n.head(
    n.node("BatchNormalization", P, *(n.const(np.ones(4)) for _ in range(3)), n.const(-np.ones(4))), 4))
onnx_case("doubling_forever", "more than", lambda n: _doubling(n))


def _doubling(net: Net) -> str:
    """Channels double with each node: a small file that stands for a huge network."""
    x = P
    for _ in range(40):
        x = net.node("Concat", x, x, axis=1)
    return net.head(x, 4)


def _cycle(model: ModelProto) -> None:
    model.graph.node[1].input[0] = model.graph.node[2].output[0]


def _wrong_size(model: ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 1 << 10


def _claim(dims: list[int]) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    return change


def _external(location: str, **entries: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=value)

    return change


def _subgraph(model: ModelProto) -> None:
    then = helper.make_graph([helper.make_node("Relu", ["pool_out"], ["y"])], "then", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], name="choice", then_branch=then, else_branch=then))
    model.graph.initializer.append(helper.make_tensor("c", TensorProto.BOOL, [], [True]))


def _twice(model: ModelProto) -> None:
    model.graph.node.append(model.graph.node[0])


proto_case("cycle", "a cycle: Relu 'relu', MaxPool 'pool'", _cycle)
proto_case("made_twice", "is made twice", _twice)
proto_case("numbers_missing", "the file is damaged", _wrong_size)
proto_case("huge_dims", "claims the shape", _claim([1 << 40, 1 << 40]))
proto_case("negative_dims", "claims the shape", _claim([-4, 3, 3, 3]))
proto_case("many_dims", "claims the shape", _claim([1] * 500))
proto_case("unknown_type", "has the type 999", lambda m: setattr(m.graph.initializer[0], "data_type", 999))
proto_case("text_as_weights", "has the type STRING", lambda m: setattr(m.graph.initializer[0], "data_type", TensorProto.STRING))
proto_case("external_above", "the path '../secret.bin' is refused", _external("../secret.bin"))
proto_case("external_absolute", "the path '/etc/passwd' is refused", _external("/etc/passwd"))
proto_case("external_drive", "is refused", _external("C:\\weights.bin"))
proto_case("external_missing", "'gone.bin' is missing", _external("gone.bin"))
proto_case("external_offset", "bytes were expected at offset", _external("m.onnx", offset="99999999999999"))
proto_case("external_length", "bytes were expected at offset", _external("m.onnx", length="1"))
proto_case("external_words", "must be whole numbers", _external("m.onnx", offset="many"))
proto_case("control_flow", "If 'choice': control flow with a graph inside", _subgraph)
proto_case("old_operators", "ONNX operator set 3", lambda m: setattr(m.opset_import[0], "version", 3))
proto_case("future_operators", "ONNX operator set 999", lambda m: setattr(m.opset_import[0], "version", 999))
proto_case("no_operator_set", "no version of its operator set", lambda m: m.ClearField("opset_import"))
proto_case("no_nodes", "no nodes", lambda m: m.graph.ClearField("node"))
proto_case("sparse", "sparse initializers", lambda m: m.graph.sparse_initializer.add())
proto_case("two_inputs", "2 inputs (x, y)", lambda m: m.graph.input.append(helper.make_tensor_value_info("y", 1, [1, 3, 8, 8])))
proto_case("line_breaks_in_names", "Rel?u 'a?b': no such operator", lambda m: (
    setattr(m.graph.node[1], "op_type", "Rel\nu"), setattr(m.graph.node[1], "name", "a\nb")))


@case("is a link")
def external_link(folder: Path) -> Path:
    (folder / "outside").mkdir()
    (folder / "outside/data.bin").write_bytes(b"\0" * 432)
    (folder / "inside").mkdir()
    (folder / "inside/data.bin").symlink_to(folder / "outside/data.bin")
    net = plain()
    model = net.model(net.head("pool_out", 4))
    _external("data.bin")(model)
    (folder / "inside/m.onnx").write_bytes(model.SerializeToString())
    return folder / "inside/m.onnx"


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


@case("more than 400000 parts")
def million_empty_nodes(folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(b"\x08\x08" + field(7, b"\x0a\x00" * 3_000_000))
    return folder / "m.onnx"


@case("bytes of single integers")
def varints_of_one_byte(folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(b"\x08\x08" + field(7, field(5, field(7, b"\x01" * 40_000_000))))
    return folder / "m.onnx"


@case("nested more than")
def graphs_in_graphs(folder: Path) -> Path:
    body = b""
    for _ in range(2000):
        body = field(1, field(5, field(6, body)))
    (folder / "m.onnx").write_bytes(b"\x08\x08" + field(7, body))
    return folder / "m.onnx"


@case("its protobuf does not parse")
def protobuf_cut_short(folder: Path) -> Path:
    net = plain()
    (folder / "m.onnx").write_bytes(net.model(net.head("pool_out", 4)).SerializeToString()[:-40])
    return folder / "m.onnx"


@case("not a PyTorch state dict")
def text_called_onnx(folder: Path) -> Path:
    (folder / "m.onnx").write_text("hello, I am no model\n" * 50)
    return folder / "m.onnx"


@case("no nodes")
def nothing_but_a_version(folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(b"\x08\x08\x42\x02\x10\x0d")
    return folder / "m.onnx"


# TorchScript and torch.export


class Small(torch.nn.Module):
    """A network of one convolution; `kind` adds something that cannot be built."""

    def __init__(self, kind: str = "") -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, groups=1)
        self.extra = torch.nn.Conv2d(4, 4, 3, groups=4)
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        if self.kind == "grouped":
            x = self.extra(x)
        elif self.kind == "sigmoid":
            x = torch.sigmoid(x)
        elif self.kind == "branch":
            x = x * 2 if bool(x.sum() > 0) else x
        elif self.kind == "loop":
            for _ in range(int(x.shape[1])):
                x = torch.relu(x)
        return x.mean((2, 3))


def scripted(folder: Path, kind: str = "") -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit's deprecation notes
        torch.jit.script(Small(kind).eval()).save(str(folder / "m.pt"))
    return folder / "m.pt"


def exported(folder: Path, kind: str = "") -> Path:
    torch.export.save(torch.export.export(Small(kind).eval(), (torch.zeros(1, 3, 8, 8),)), folder / "m.pt2")
    return folder / "m.pt2"


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None], compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive with each entry passed through `change`; None drops it."""
    with zipfile.ZipFile(path) as archive:
        entries = [(i.filename, archive.read(i)) for i in archive.infolist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            changed = change(name, content)
            if changed is not None:
                archive.writestr(name, changed)
    return path


def swap(entry: str, old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        if not name.endswith(entry):
            return content
        assert old in content, content
        return content.replace(old, new)

    return change


for _format, _make in (("torchscript", scripted), ("exported", exported)):
    CASES[f"{_format}_grouped"] = (lambda f, m=_make: m(f, "grouped"), "4 groups")
    CASES[f"{_format}_sigmoid"] = (lambda f, m=_make: m(f, "sigmoid"), "sigmoid")
CASES["torchscript_branch"] = (lambda f: scripted(f, "branch"), "sum")
CASES["torchscript_loop"] = (lambda f: scripted(f, "loop"), "For statement")


@case("holds code or objects (posix.system)")
def torchscript_with_code(folder: Path) -> Path:
    class Boom:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {folder / 'ran'}",)

    body = pickle.dumps(Boom(), protocol=2)
    return rewritten(scripted(folder), lambda name, content: body if name.endswith("/data.pkl") else content)


@case("the pickle opcode INST is refused")
def torchscript_with_an_old_opcode(folder: Path) -> Path:
    return rewritten(scripted(folder), lambda name, content: b"(ios\nsystem\n." if name.endswith("/data.pkl") else content)


@case("more than 2000000 parts")
def torchscript_with_a_huge_memo(folder: Path) -> Path:
    return rewritten(scripted(folder), lambda name, content: b"\x80\x02Nr\xff\xff\xff\x7f." if name.endswith("/data.pkl") else content)


@case("cannot be followed: ")
def torchscript_with_foreign_code(folder: Path) -> Path:
    return rewritten(scripted(folder), lambda name, content: b"import os\nos.system('touch ran')\n" if name.endswith(".py") else content)


@case("not one of torch's standard operators")
def torchscript_calling_os(folder: Path) -> Path:
    return rewritten(scripted(folder), swap("test_load_refusals.py", b"torch.relu(", b"os.system("))


@case("does not parse")
def torchscript_nested_too_deep(folder: Path) -> Path:
    deep = b"(" * 5000 + b")" * 5000
    return rewritten(scripted(folder), lambda name, content: deep if name.endswith("test_load_refusals.py") else content)


@case("on something other than numbers")
def torchscript_multiplying_text(folder: Path) -> Path:
    return rewritten(scripted(folder), swap("test_load_refusals.py", b"    conv = self.conv\n", b'    conv = torch.mul("a", 9999999999)\n'))


@case("calls nested more than")
def torchscript_calling_itself(folder: Path) -> Path:
    return rewritten(scripted(folder), swap("test_load_refusals.py", b"    conv = self.conv\n", b"    conv = (self).forward(x, )\n"))


@case("statements; larger networks are not read")
def torchscript_doubling_calls(folder: Path) -> Path:
    text = b"".join(b"def f%d(x: Tensor) -> Tensor:\n  a = __torch__.m.f%d(x, )\n  return __torch__.m.f%d(x, )\n" % (i, i + 1, i + 1) for i in range(40))
    text += b"def f40(x: Tensor) -> Tensor:\n  return x\n"
    path = rewritten(scripted(folder), swap("test_load_refusals.py", b"    conv = self.conv\n", b"    conv = __torch__.m.f0(x, )\n"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/code/__torch__/m.py", text)
    return path


@case("is missing")
def torchscript_without_code(folder: Path) -> Path:
    return rewritten(scripted(folder), lambda name, content: None if name.endswith(".py") else content)


@case("numbers of 4 were promised")
def torchscript_short_weights(folder: Path) -> Path:
    return rewritten(scripted(folder), lambda name, content: content[:8] if name.endswith("/data/0") else content)


@case("damaged or cut short")
def torchscript_cut_short(folder: Path) -> Path:
    path = scripted(folder)
    path.write_bytes(path.read_bytes()[:-100])
    return path


@case("is longer than the")
def exported_short_weights(folder: Path) -> Path:
    return rewritten(exported(folder), lambda name, content: content[:8] if name.endswith("weight_0") else content)


@case("the exported program is damaged or of an unknown version")
def exported_other_json(folder: Path) -> Path:
    return rewritten(exported(folder), lambda name, content: b'{"a": [1, 2]}' if name.endswith("model.json") else content)


@case("the exported program is damaged or of an unknown version")
def exported_nested_json(folder: Path) -> Path:
    return rewritten(exported(folder), lambda name, content: b"[" * 200_000 if name.endswith("model.json") else content)


@case("is missing from the archive")
def exported_without_weights(folder: Path) -> Path:
    return rewritten(exported(folder), lambda name, content: None if name.endswith("weight_1") else content)


@case("not one of torch's standard operators")
def exported_foreign_operator(folder: Path) -> Path:
    return rewritten(exported(folder), swap("model.json", b"torch.ops.aten.relu.default", b"builtins.eval"))


@case("no such operator")
def exported_hidden_attribute(folder: Path) -> Path:
    return rewritten(exported(folder), swap("model.json", b"torch.ops.aten.relu.default", b"torch.ops.aten.__class__.default"))


@case("holds something other than tensors")
def exported_pickled_weights(folder: Path) -> Path:
    class Boom:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {folder / 'ran'}",)

    buffer = io.BytesIO()
    torch.save({"conv.weight": Boom()}, buffer)

    def change(name: str, content: bytes) -> bytes:
        if name.endswith("model_weights_config.json"):
            return content.replace(b'"use_pickle": false', b'"use_pickle": true')
        return buffer.getvalue() if name.endswith(("weight_0", "weight_1")) else content

    return rewritten(exported(folder), change)


@case("holds code or objects")
def whole_module(folder: Path) -> Path:
    torch.save(Small(), folder / "m.pt")
    return folder / "m.pt"


def bomb(folder: Path, entry: str, size: int) -> Path:
    """An archive whose one large entry is zeros, deflated a thousandfold."""
    with zipfile.ZipFile(folder / "m.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("m/constants.pkl" if "data.pkl" in entry else "m/archive_format", b"pt2")
        with archive.open(entry, "w", force_zip64=True) as stream:
            for _ in range(size >> 20):
                stream.write(b"\0" * (1 << 20))
    return folder / "m.pt"


@case("unpacks to")
def zip_bomb(folder: Path) -> Path:
    return bomb(folder, "m/data/weights/weight_0", 560 << 20)


@case("bytes; at most 16000000 are read")
def zip_bomb_of_json(folder: Path) -> Path:
    return bomb(folder, "m/models/model.json", 400 << 20)


@case("bytes; at most 16000000 are read")
def zip_bomb_of_a_pickle(folder: Path) -> Path:
    return bomb(folder, "m/data.pkl", 400 << 20)


@case("damaged")
def zip_that_lies_about_sizes(folder: Path) -> Path:
    """The table of contents promises 100 bytes, the deflated stream holds gigabytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    with zipfile.ZipFile(folder / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/archive_format", b"pt2")
        archive.writestr("m/models/model.json", b"0" * (64 << 20))
    content = (folder / "m.pt").read_bytes()
    assert packer is not None
    (folder / "m.pt").write_bytes(content.replace((64 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    return folder / "m.pt"


def one_line(path: Path, says: str, seconds: float) -> None:
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        load_model(path)
    text = str(caught.value)
    assert says in text, text
    assert text.startswith(str(path)) and "\n" not in text and len(text) < 3000
    assert time.process_time() - start < seconds, "bounded time"
    assert not (path.parent / "ran").exists() and not Path("ran").exists(), "code of the file ran"


@pytest.mark.parametrize("name", CASES)
def test_one_clear_line(name: str, tmp_path: Path) -> None:
    build, says = CASES[name]
    one_line(build(tmp_path), says, 10.0)


def test_there_are_more_than_thirty() -> None:
    assert len(CASES) > 90


@pytest.mark.parametrize("name", ["cycle", "external_above", "torchscript_with_code", "exported_grouped", "zip_bomb"])
def test_the_command_line_exits_with_2(name: str, tmp_path: Path, run_cli: RunCli) -> None:
    path = CASES[name][0](tmp_path)
    result = run_cli("export", path, "--calibration", "random", "-o", tmp_path / "out")
    assert result.code == 2 and CASES[name][1] in result.err
    assert len(result.err.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


BOMBS = ["million_empty_nodes", "varints_of_one_byte", "graphs_in_graphs", "huge_constant", "doubling_forever", "zip_bomb", "zip_bomb_of_json",
         "zip_bomb_of_a_pickle", "zip_that_lies_about_sizes", "torchscript_with_a_huge_memo", "torchscript_doubling_calls", "huge_dims"]  # fmt: skip


def test_bombs_stay_within_a_gigabyte(tmp_path: Path) -> None:
    """In a process of its own whose address space may grow by 1 GB beyond what importing torch takes."""
    paths = []
    for name in BOMBS:
        (tmp_path / name).mkdir()
        paths.append(str(CASES[name][0](tmp_path / name)))
    script = """
import json, resource, sys
from pathlib import Path
from fpga_squeeze.errors import InputError
from fpga_squeeze.load.model import load_model
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
said = []
for path in sys.argv[1:]:
    try:
        load_model(path)
        said.append("loaded")
    except InputError as error:
        said.append(str(error))
print(json.dumps(said))
"""
    run = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    for name, text in zip(BOMBS, json.loads(run.stdout), strict=True):
        assert CASES[name][1] in text, (name, text)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzzed_protobufs(data: st.DataObject, tmp_path: Path) -> None:
    """Flipped, cut and repeated bytes of a good model: it loads, or one line says why not."""
    net = plain()
    body = bytearray(net.model(net.head("pool_out", 4)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(2, len(body) - 1))
        kind = data.draw(st.sampled_from(["flip", "byte", "cut", "repeat"]))
        if kind == "flip":
            body[position] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "byte":
            body[position] = data.draw(st.integers(0, 255))
        else:
            end = min(len(body), position + data.draw(st.integers(1, 20)))
            body[position:end] = b"" if kind == "cut" else bytes(body[position:end]) * 2
    path = tmp_path / "m.onnx"
    path.write_bytes(body)
    try:
        load_model(path, LoadOptions())
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("make", [scripted, exported], ids=["torchscript", "exported"])
def test_fuzzed_archives(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """The same for the pickle, the code and the JSON inside a valid archive."""
    good = make(tmp_path).read_bytes()
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        entries = {i.filename: archive.read(i) for i in archive.infolist()}
    names = [n for n in entries if n.endswith((".pkl", ".py", "model.json", "config.json")) and len(entries[n]) > 10]
    rng = np.random.default_rng(0)
    path = tmp_path / "fuzzed.pt"
    outcomes = set()
    for i in range(80):
        name = names[i % len(names)]
        body = bytearray(entries[name])
        for position in rng.integers(0, len(body), 3):
            body[position] = int(rng.integers(32, 127))
        with zipfile.ZipFile(path, "w") as archive:
            for other, content in entries.items():
                archive.writestr(other, bytes(body) if other == name else content)
        try:
            load_model(path, LoadOptions(input_size=8))
            outcomes.add("loaded")
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            outcomes.add("refused")
    assert "refused" in outcomes


def test_the_good_ones_do_load(tmp_path: Path) -> None:
    """So that no case above is refused for a reason of its own making."""
    net = plain()
    assert load_model(net.save(tmp_path / "m.onnx", net.head("pool_out", 4))).arch == "graph"
    assert load_model(exported(tmp_path)).arch == "graph"
    assert load_model(scripted(tmp_path), LoadOptions(input_size=8)).graph.input.shape == (3, 8, 8)
    assert onnx.load(tmp_path / "m.onnx").graph.node
