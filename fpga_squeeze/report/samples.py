"""samples.json: a few pictures with what the float network and the fixed-point machine say of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fpga_squeeze.ir import Graph
from fpga_squeeze.quantize.qgraph import QuantGraph
from fpga_squeeze.simulate.evaluate import top_k
from fpga_squeeze.simulate.fast import FastSimulator
from fpga_squeeze.simulate.float_model import FloatModel

SAMPLES = 6
CLASSES_SHOWN = 5
THUMBNAIL = 144
JPEG_FROM = 64
"""Side from which a picture is stored as JPEG; smaller ones are exact PNGs."""


def evenly_spread(count: int, wanted: int = SAMPLES) -> list[int]:
    """At most `wanted` indices over 0 .. count - 1, the first and the last included.

    >>> evenly_spread(100, 3), evenly_spread(2, 3)
    ([0, 50, 99], [0, 1])
    """
    if count <= wanted:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, wanted).round()]


def samples_json(
    graph: Graph, qgraph: QuantGraph, pixels: NDArray[np.uint8], files: Sequence[str], source: str,
    truth: Sequence[int | None] = (), names: Sequence[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """{"source", "images": [{"file", "class", "label", "thumbnail", "float": [...], "fixed": [...]}]}.

    Entries of a side: {"class", "label", "probability"}, on the fixed side "sum" too.

    Probabilities are the softmax of the class scores: of the float means, and of the machine's exact sums as the numbers they stand for.

    Args:
        graph: the lowered float graph. `pixels`: uint8 (N, C, H, W), one picture a file name. `source`: "calibration", "evaluation" or "random".
        truth: true class of each, None or empty where unknown. `names`: class names in class order.
    """
    if not len(pixels) or not files:
        return {"source": source, "images": []}
    scores = FloatModel(graph).run(torch.from_numpy(pixels.astype(np.float32))).numpy().astype(np.float64)
    sums = FastSimulator(qgraph).run(pixels)
    output = qgraph[qgraph.output]
    _, height, width = qgraph[output.inputs[0]].shape
    chances = _softmax(scores), _softmax(sums * output.fmt.scale / (height * width))
    k = min(CLASSES_SHOWN, sums.shape[1])
    ranked = top_k(scores, k), top_k(sums, k)
    label = [names[i] if names else None for i in range(sums.shape[1])]
    images = []
    for i, file in enumerate(files):
        sides = []
        for chance, best in zip(chances, ranked, strict=True):
            sides.append([{"class": int(c), "label": label[c], "probability": round(float(chance[i, c]), 4)} for c in best[i]])
        for row in sides[1]:
            row["sum"] = int(sums[i, row["class"]])
        known = truth[i] if truth else None
        images.append({
            "file": file, "class": known, "label": None if known is None else label[known], "thumbnail": thumbnail(pixels[i]), "float": sides[0],
            "fixed": sides[1],
        })  # fmt: skip
    return {"source": source, "images": images}


def thumbnail(frame: NDArray[np.uint8]) -> str:
    """One frame (C, H, W), grey or RGB, as a data URI; shrunk to THUMBNAIL pixels, the same bytes every time."""
    image = Image.fromarray(frame[0] if frame.shape[0] == 1 else np.ascontiguousarray(frame[:3].transpose(1, 2, 0)))
    if max(image.size) > THUMBNAIL:
        image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    photo = max(image.size) >= JPEG_FROM
    if photo:
        image.save(stream, "JPEG", quality=80, optimize=True)
    else:
        image.save(stream, "PNG", optimize=True)
    return f"data:image/{'jpeg' if photo else 'png'};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)
