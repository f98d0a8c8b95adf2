"""Padding and pooling on torch tensors, shared by the float model and the fast simulator."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fpga_squeeze.ir import Padding


def is_symmetric(padding: Padding) -> bool:
    """True when torch's own (vertical, horizontal) zero padding can express it."""
    top, left, bottom, right = padding
    return top == bottom and left == right


def pad_channels(x: torch.Tensor, padding: Padding, values: torch.Tensor | float) -> torch.Tensor:
    """Surround (N, C, H, W) with a constant: one float for all channels or a tensor (C,). Keeps dtype and memory layout."""
    top, left, bottom, right = padding
    if not any(padding):
        return x
    if isinstance(values, float):
        return F.pad(x, (left, right, top, bottom), value=values)
    n, c, h, w = x.shape
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    out = torch.empty((n, c, h + top + bottom, w + left + right), dtype=x.dtype, memory_format=layout)
    out.copy_(values.to(x.dtype).view(1, c, 1, 1).expand_as(out))
    out[:, :, top : top + h, left : left + w] = x
    return out


def max_pool(x: torch.Tensor, kernel: int, stride: int, padding: Padding) -> torch.Tensor:
    """Max pooling of (N, C, H, W); padded positions never win, whatever the sign of the data."""
    top, left, bottom, right = padding
    if top == left and 2 * top <= kernel:
        expected = tuple((s + a + b - kernel) // stride + 1 for s, a, b in ((x.shape[2], top, bottom), (x.shape[3], left, right)))
        # torch starts its windows at the same places and clips them alike, so an equal size means equal windows.
        ceil_mode = bottom > top or right > left
        if _pool_size(x.shape[2], kernel, stride, top, ceil_mode) == expected[0] and _pool_size(x.shape[3], kernel, stride, left, ceil_mode) == expected[1]:
            return F.max_pool2d(x, kernel, stride, padding=top, ceil_mode=ceil_mode)
    return F.max_pool2d(pad_channels(x, padding, float("-inf")), kernel, stride)


def _pool_size(size: int, kernel: int, stride: int, pad: int, ceil_mode: bool) -> int:
    span = size + 2 * pad - kernel
    if not ceil_mode:
        return span // stride + 1
    count = -(-span // stride) + 1
    return count - 1 if (count - 1) * stride >= size + pad else count
