"""From a table of the family and its weights to a float Graph."""

from __future__ import annotations

from fpga_squeeze.ir import Add, BatchNorm, Concat, Conv, GlobalAveragePool, Graph, GraphBuilder, Identity, Input, MaxPool, Relu, ceil_mode_extra
from fpga_squeeze.load.state_dict import ConvWeights
from fpga_squeeze.zoo.arch import Arch, ConvSpec, FireSpec


def build_graph(arch: Arch, weights: dict[str, ConvWeights], input_size: int, ceil_mode: bool, conv10_padding: int) -> Graph:
    """The network as trained: (C, input_size, input_size) normalized pixels -> (classes, 1, 1) means, with ReLU and dropout as nodes of their own."""
    b = GraphBuilder()
    channels = weights[arch.layers[0].name].weight.shape[1]
    x = b.add("image", Input((channels, input_size, input_size)), ())
    for layer in arch.layers:
        if isinstance(layer, ConvSpec):
            x = _conv(b, x, layer.name, weights, layer.stride, layer.padding)
        elif isinstance(layer, FireSpec):
            s = _conv(b, x, f"{layer.name}.squeeze", weights)
            e1 = _conv(b, s, f"{layer.name}.expand1x1", weights)
            e3 = _conv(b, s, f"{layer.name}.expand3x3", weights, padding=1)
            concat = b.add(f"{layer.name}.concat", Concat(), (e1, e3))
            if layer.bypass == "conv":
                x = _conv(b, x, f"{layer.name}.bypass", weights, relu=False)
            x = concat if layer.bypass == "none" else b.add(f"{layer.name}.add", Add(), (x, concat))
        else:
            _, h, w = b.shape(x)
            extra = [ceil_mode_extra(n, layer.kernel, layer.stride, 0) if ceil_mode else 0 for n in (h, w)]
            x = b.add(layer.name, MaxPool(layer.kernel, layer.stride, (0, 0, extra[0], extra[1])), (x,))
    x = b.add("dropout", Identity(), (x,))
    x = _conv(b, x, "conv10", weights, padding=conv10_padding)
    return b.build(b.add("pool10", GlobalAveragePool(), (x,)))


def _conv(b: GraphBuilder, x: str, name: str, weights: dict[str, ConvWeights], stride: int = 1, padding: int = 0, relu: bool = True) -> str:
    w = weights[name]
    x = b.add(name, Conv(w.weight, w.bias, stride, (padding,) * 4), (x,))
    if w.norm is not None:
        x = b.add(f"{name}_bn", BatchNorm(*w.norm), (x,))
    return b.add(f"{name}.relu", Relu(), (x,)) if relu else x
