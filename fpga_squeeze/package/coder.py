"""The entropy coder: an adaptive binary range coder over a layer's decisions. Layer in, bytes out, and back; the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from fpga_squeeze.fixed_point import Int64
from fpga_squeeze.package.contexts import (
    BANK,
    BIAS,
    DIRECT,
    LEARN_LIMIT,
    NEIGHBOUR_CLASSES,
    P_BITS,
    P_MAX,
    P_MIN,
    P_ONE,
    SHIFT,
    SHIFT_CLASSES,
    WEIGHT,
    Kind,
    decisions,
    fresh_models,
    weight_contexts,
)
from fpga_squeeze.package.errors import Code, PackageError
from fpga_squeeze.package.network import Geometry, Values

BLOCK_NUMBERS = 100_000
"""Numbers whose decisions are in memory at once when coding."""
_TOP = 1 << 24
_ALL = 0xFFFFFFFF


class Encoder:
    """Codes decisions one after the other: a 32-bit range, carries walk back through the bytes that are out already."""

    def __init__(self) -> None:
        self.out = bytearray()
        self._low, self._range = 0, _ALL
        self._p, self._seen = fresh_models()

    def encode(self, coded: Iterable[int]) -> None:
        """Append decisions, each 2 * model + bit."""
        low, width, p, seen, out = self._low, self._range, self._p, self._seen, self.out
        for decision in coded:
            model = decision >> 1
            q, n = p[model], seen[model]
            bound = width * q >> P_BITS
            if decision & 1:
                low += bound
                width -= bound
                q -= q // (n + 2)
                p[model] = q if q > P_MIN else P_MIN
                if low > _ALL:
                    low &= _ALL
                    _carry(out)
            else:
                width = bound
                q += (P_ONE - q) // (n + 2)
                p[model] = q if q < P_MAX else P_MAX
            if n < LEARN_LIMIT:
                seen[model] = n + 1
            while width < _TOP:
                out.append(low >> 24)
                low = low << 8 & _ALL
                width <<= 8
        self._low, self._range = low, width

    def finish(self) -> bytes:
        """Every byte; the decoder ends with nothing left to read and zero in its register."""
        return bytes(self.out) + self._low.to_bytes(4, "big")


def _carry(out: bytearray) -> None:
    at = len(out) - 1
    while out[at] == 255:
        out[at] = 0
        at -= 1
    out[at] += 1


def encode_layer(geometry: Geometry, values: Values, base: Values | None = None) -> bytes:
    """The stream of a layer: for every output channel its shift, its bias and its weights; with `base`, what they are more than the base's."""
    oc = geometry.oc
    weight, bias, shift = values.weight.reshape(oc, -1), values.bias, values.shift
    old = None
    if base is None:
        shift_numbers = np.diff(shift, prepend=geometry.shift_min)
    else:
        old = base.weight.reshape(oc, -1)
        weight, bias, shift_numbers = weight - old, bias - base.bias, shift - base.shift
    head, sign = weight_contexts(weight, (shift - geometry.shift_min) % SHIFT_CLASSES, old)
    width = weight.shape[1] + 2

    def column(of_weights: Int64 | int, of_shift: int, of_bias: int) -> Int64:
        full = np.empty((oc, width), dtype=np.int64)
        full[:, 0], full[:, 1], full[:, 2:] = of_shift, of_bias, of_weights
        return full

    numbers = column(weight, 0, 0)
    numbers[:, 0], numbers[:, 1] = shift_numbers, bias
    columns = (
        numbers, column(head, SHIFT.head, BIAS.head), column(sign, SHIFT.sign, BIAS.sign), column(WEIGHT.tree, SHIFT.tree, BIAS.tree),
        column(WEIGHT.depth, SHIFT.depth, BIAS.depth), column(WEIGHT.longest, SHIFT.longest, BIAS.longest),
    )  # fmt: skip
    flat = [c.reshape(-1) for c in columns]
    encoder = Encoder()
    for at in range(0, numbers.size, BLOCK_NUMBERS):
        encoder.encode(decisions(*(c[at : at + BLOCK_NUMBERS] for c in flat)).tolist())
    return encoder.finish()


class Decoder:
    """Reads a stream; never past its end. `bit(model)` gives the next decision."""

    def __init__(self, stream: bytes) -> None:
        self.bit, self.finish = _reader(stream)

    def number(self, kind: Kind, head: int, sign: int) -> int:
        """The next number; `head` and `sign`: its models."""
        bit = self.bit
        if not bit(head):
            return 0
        negative = bit(sign)
        length, longest = 1, kind.longest
        while length < longest and bit(head + length):
            length += 1
        depth = kind.depth
        base, models = kind.tree + (1 << (min(length, depth) - 1)) - 1, 1 << (depth - 1)
        value = 1
        for _ in range(length - 1):
            value = 2 * value + bit(base + value if value < models else DIRECT)
        return -value if negative else value


def _reader(stream: bytes) -> tuple[Callable[[int], int], Callable[[], None]]:
    """(bit, finish): a closure's variables are twice as fast to reach as an object's."""
    p, seen = fresh_models()
    if len(stream) < 4:
        raise PackageError(Code.STREAM)
    code, width, at, end = int.from_bytes(stream[:4], "big"), _ALL, 4, len(stream)
    if code >= width:  # below the width it stays for ever, so that it fits 32 bits
        raise PackageError(Code.STREAM)

    def bit(model: int) -> int:
        nonlocal code, width, at
        q, n = p[model], seen[model]
        bound = width * q >> P_BITS
        if code >= bound:
            code -= bound
            width -= bound
            q -= q // (n + 2)
            p[model] = q if q > P_MIN else P_MIN
            found = 1
        else:
            width = bound
            q += (P_ONE - q) // (n + 2)
            p[model] = q if q < P_MAX else P_MAX
            found = 0
        if n < LEARN_LIMIT:
            seen[model] = n + 1
        while width < _TOP:
            if at == end:
                raise PackageError(Code.STREAM)
            code = code << 8 | stream[at]
            at += 1
            width <<= 8
        return found

    def finish() -> None:
        if at != end or code:
            raise PackageError(Code.STREAM)

    return bit, finish


def decode_layer(geometry: Geometry, stream: bytes, base: Values | None = None) -> Values:
    """The inverse of `encode_layer`.

    Raises:
        PackageError: STREAM for bytes that no encoder writes, VALUE for a number beyond its width.
    """
    g, decoder = geometry, Decoder(stream)
    count = g.ic * g.kernel**2
    half, bias_half = 1 << (g.weight_bits - 1), 1 << (g.bias_bits - 1)
    weights, biases, shifts = np.empty((g.oc, count), dtype=np.int64), [], []
    shift = g.shift_min
    for o in range(g.oc):
        shift = decoder.number(SHIFT, SHIFT.head, SHIFT.sign) + (shift if base is None else int(base.shift[o]))
        bias = decoder.number(BIAS, BIAS.head, BIAS.sign) + (0 if base is None else int(base.bias[o]))
        if not 0 <= shift - g.shift_min < 1 << g.shift_bits or not -bias_half <= bias < bias_half:
            raise PackageError(Code.VALUE)
        shifts.append(shift)
        biases.append(bias)
        old = [1] * count if base is None else base.weight[o].reshape(-1).tolist()
        row = _channel(decoder, (shift - g.shift_min) % SHIFT_CLASSES, old)
        values = np.array(row, dtype=np.int64) + (0 if base is None else np.array(old, dtype=np.int64))
        if values.min() < -half or values.max() >= half:
            raise PackageError(Code.VALUE)
        weights[o] = values
    decoder.finish()
    shape = (g.oc, g.ic, g.kernel, g.kernel)
    return Values(weights.reshape(shape), np.array(biases, dtype=np.int64), np.array(shifts, dtype=np.int64))


def _channel(decoder: Decoder, shift_class: int, old: list[int]) -> list[int]:
    """The numbers of one channel's weights; `old`: the base's weights, or ones."""
    number, top = decoder.number, NEIGHBOUR_CLASSES - 1
    heads = [[WEIGHT.stride * (bank * BANK + shift_class * NEIGHBOUR_CLASSES + size) for size in range(NEIGHBOUR_CLASSES)] for bank in (0, 1)]
    row = []
    size = last = kind = before = 0
    for was in old:
        head = heads[was == 0][min(((size + last + 1) >> 1).bit_length(), top)]
        v = number(WEIGHT, head, WEIGHT.sign + 3 * kind + before)
        row.append(v)
        last, size = size, abs(v)
        before, kind = kind, (0 if v == 0 else 1 if v < 0 else 2)
    return row
