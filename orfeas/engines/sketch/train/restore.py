"""From an exported network back to one that can be trained on: the checkpoint of a run may be gone, its result is not.

In the file every batch normalization has become part of the convolution before it. It is taken out again by measuring
what the convolutions answer on samples: scale and shift are set so that the network's answers stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from orfeas.engines.sketch.train.export import FLOAT16
from orfeas.engines.sketch.train.network import Attention, Residual, SketchNet
from orfeas.errors import BadWeights


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a Protocol Buffers message."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(data):
        field, kind = divmod(varint(), 8)
        if kind == 0:
            yield field, varint()
            continue
        size = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        yield field, data[place : place + size]
        place += size


def weights_of(model: Path) -> list[Tensor]:
    """Weight and bias of every convolution of a file that `export` wrote, float32, in the order of its graph."""
    tensors = []
    for field, graph in _fields(model.read_bytes()):
        if field != 7:  # ModelProto.graph
            continue
        for part, value in _fields(graph):
            if part != 5:  # GraphProto.initializer
                continue
            entries = list(_fields(value))
            shape = [entry for name, entry in entries if name == 1]
            kinds = {name: entry for name, entry in entries if name != 1}
            if kinds[2] == FLOAT16:
                tensors.append(torch.from_numpy(np.frombuffer(kinds[9], np.float16).reshape(shape).astype(np.float32)))
    return tensors


def _layers(module: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d | None] | Attention]:
    """Convolutions with the normalizations folded into them, and attentions, in the order of their export."""
    if isinstance(module, nn.Conv2d):
        yield module, None
    elif isinstance(module, Residual):
        yield from _layers(module.first)
        yield from _layers(module.second)
    elif isinstance(module, Attention):
        yield module
        yield from _layers(module.out)
    elif isinstance(module, nn.Sequential):
        layers = list(module)
        if len(layers) > 1 and isinstance(layers[1], nn.BatchNorm2d):
            yield layers[0], layers[1]
            layers = layers[2:]
        for layer in layers:
            yield from _layers(layer)


@torch.no_grad()
def restore(model: Path, inputs: Tensor) -> SketchNet:
    """The network of an ONNX file, its statistics measured on ``inputs``, (n, CHANNELS, GRID, GRID).

    Filters before a normalization come out with length 1, whatever the file has, for only their direction counts.
    Raises `BadWeights` where the file holds another network.
    """
    network = SketchNet().eval()
    stages = [
        *(network.stem, network.down_half, network.down_quarter, network.down_coarse, network.up_quarter),
        *(network.narrow_half, network.up_half, network.narrow_fine, network.up_fine),
    ]
    tensors = iter(weights_of(model))
    hooks = []
    try:
        for layer in (layer for stage in stages for layer in _layers(stage)):
            if isinstance(layer, Attention):
                hooks.append(_fill_attention(layer, tensors))
                continue
            convolution, norm = layer
            if norm is None:
                _copy(convolution.weight, next(tensors))
                _copy(convolution.bias, next(tensors))
            else:
                hooks.append(_fill_normalized(convolution, norm, next(tensors), next(tensors)))
        next(tensors), next(tensors)  # what the prior adds
        scale = network.scale.flatten()
        _copy(network.surface.weight, next(tensors) / scale[:, None, None, None])
        _copy(network.surface.bias, next(tensors) / scale)
    except (StopIteration, RuntimeError) as error:
        raise BadWeights(f"{model.name} does not hold a network of this size. Train from nothing.") from error
    network(inputs)
    for hook in hooks:
        hook.remove()
    return network


def _copy(parameter: Tensor, values: Tensor) -> None:
    if parameter.shape != values.shape:
        raise RuntimeError(f"{tuple(values.shape)} is not {tuple(parameter.shape)}")
    parameter.copy_(values)


def _measure(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Keep mean and variance of ``x``, (n, channels, h, w); returns the standard deviation."""
    norm.running_mean.copy_(x.mean((0, 2, 3)))
    norm.running_var.copy_(x.var((0, 2, 3)))
    return torch.sqrt(norm.running_var + norm.eps)


def _fill_normalized(convolution: nn.Conv2d, norm: nn.BatchNorm2d, weight: Tensor, shift: Tensor):
    length = weight.flatten(1).norm(dim=1).clamp(min=1e-6)
    _copy(convolution.weight, weight / length[:, None, None, None])

    def before(_, arguments: tuple[Tensor]) -> None:
        norm.weight.copy_(length * _measure(norm, arguments[0]))
        norm.bias.copy_(shift + length * norm.running_mean)

    return norm.register_forward_pre_hook(before)


def _fill_attention(attention: Attention, tensors: Iterator[Tensor]):
    mixing = attention.query_key_value
    rows = [(next(tensors), next(tensors)) for _ in range(3)]
    weight, bias = (torch.cat(parts) for parts in zip(*rows, strict=True))
    channels = len(bias) // 3
    head = channels // attention.heads
    weight[:channels] *= head**0.5
    bias[:channels] *= head**0.5
    _copy(mixing.weight, weight)

    def before(_, arguments: tuple[Tensor]) -> None:
        spread = _measure(attention.norm, arguments[0])
        mixing.weight.copy_(weight * spread[None, :, None, None])
        mixing.bias.copy_(bias + weight[:, :, 0, 0] @ attention.norm.running_mean)

    return attention.norm.register_forward_pre_hook(before)
