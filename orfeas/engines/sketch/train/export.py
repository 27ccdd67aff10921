"""The network as an ONNX file, with its weights in half precision and batch normalization folded into the convolutions.

The few message types that are needed are written by hand (Protocol Buffers encoding; field numbers of onnx.proto3,
opset 13), which spares a dependency and keeps the file to what `cv2.dnn` reads.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from orfeas.engines.sketch import learned
from orfeas.engines.sketch.train.network import Attention, Residual, SketchNet

FLOAT, FLOAT16, INT64 = 1, 10, 7  # onnx.TensorProto.DataType
ELEMENT = {np.dtype(np.float32): FLOAT, np.dtype(np.float16): FLOAT16, np.dtype(np.int64): INT64}


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as 64-bit two's complement
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_number(1, size) for size in values.shape)
    kind = _number(2, ELEMENT[values.dtype])
    return dims + kind + _bytes(8, name) + _bytes(9, np.ascontiguousarray(values).tobytes())


def _attribute(name: str, value: int | float | str | list[int]) -> bytes:
    head = _bytes(1, name)
    if isinstance(value, float):
        return head + _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, 1)
    if isinstance(value, int):
        return head + _number(3, value) + _number(20, 2)
    if isinstance(value, str):
        return head + _bytes(4, value) + _number(20, 3)
    return head + b"".join(_number(8, item) for item in value) + _number(20, 7)


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, FLOAT) + _bytes(2, dims)))


class Graph:
    """An ONNX graph under construction; each method appends a node and returns the name of its output.

    other: weights and biases of a network of the same form, in the order of the graph, to be averaged in by ``share``.
    """

    def __init__(self, weight_type: np.dtype, other: list[Tensor] | None = None, share: float = 0.0):
        self.weight_type = weight_type
        self.other = iter(other or [])
        self.share = share if other else 0.0
        self.nodes: list[bytes] = []
        self.tensors: list[bytes] = []

    def tensor(self, values: np.ndarray) -> str:
        """A constant; floating-point ones in the graph's weight type."""
        name = f"w{len(self.tensors)}"
        self.tensors.append(_tensor(name, values))
        return name

    def node(self, operator: str, inputs: list[str], output: str = "", **attributes) -> str:
        """Any operator."""
        output = output or f"t{len(self.nodes)}"
        parts = [_bytes(1, name) for name in inputs] + [_bytes(2, output), _bytes(3, output), _bytes(4, operator)]
        parts += [_bytes(5, _attribute(name, value)) for name, value in attributes.items()]
        self.nodes.append(b"".join(parts))
        return output

    def convolve(self, x: str, weight: Tensor, bias: Tensor, stride: int = 1) -> str:
        """A convolution that keeps the size (but for the stride)."""
        size = weight.shape[-1]
        if self.share:
            weight, bias = (torch.lerp(ours, next(self.other), self.share) for ours in (weight, bias))
        names = [self.tensor(values.detach().numpy().astype(self.weight_type)) for values in (weight, bias)]
        return self.node(
            "Conv", [x, *names], kernel_shape=[size, size], strides=[stride, stride], pads=[size // 2] * 4, group=1
        )

    def reshape(self, x: str, shape: list[int]) -> str:
        """The same numbers in another shape."""
        return self.node("Reshape", [x, self.tensor(np.array(shape, np.int64))])

    def enlarge(self, x: str) -> str:
        """Twice the size, bilinear."""
        scales = self.tensor(np.array([1, 1, 2, 2], np.float32))
        return self.node("Resize", [x, "", scales], mode="linear", coordinate_transformation_mode="half_pixel")

    def module(self, x: str, module: nn.Module) -> str:
        """A module of the network."""
        if isinstance(module, nn.Sequential):
            layers = list(module)
            if len(layers) > 1 and isinstance(layers[1], nn.BatchNorm2d):
                x = self.convolve(x, *_folded(layers[0], layers[1]), layers[0].stride[0])
                layers = layers[2:]
            for layer in layers:
                x = self.module(x, layer)
            return x
        if isinstance(module, nn.ReLU):
            return self.node("Relu", [x])
        if isinstance(module, nn.Conv2d):
            return self.convolve(x, module.weight, module.bias, module.stride[0])
        if isinstance(module, Residual):
            return self.node("Relu", [self.node("Add", [x, self.module(self.module(x, module.first), module.second)])])
        if isinstance(module, Attention):
            return self._attention(x, module)
        raise TypeError(f"no rule for {type(module).__name__}")

    def _attention(self, x: str, module: Attention) -> str:
        channels = module.norm.num_features
        scale, shift = _affine(module.norm)
        weight = module.query_key_value.weight[:, :, 0, 0]
        bias = module.query_key_value.bias + weight @ shift
        weight = (weight * scale)[:, :, None, None]
        cells = (learned.GRID // 8) ** 2
        head = channels // module.heads
        parts = []
        for part in range(3):
            rows = slice(part * channels, (part + 1) * channels)
            factor = head**-0.5 if part == 0 else 1.0
            mixed = self.convolve(x, weight[rows] * factor, bias[rows] * factor)
            parts.append(self.reshape(mixed, [1, module.heads, head, cells]))
        query, key, value = parts
        scores = self.node("MatMul", [self.node("Transpose", [query], perm=[0, 1, 3, 2]), key])
        chosen = self.node("Transpose", [self.node("Softmax", [scores], axis=3)], perm=[0, 1, 3, 2])
        mixed = self.reshape(self.node("MatMul", [value, chosen]), [1, channels, learned.GRID // 8, learned.GRID // 8])
        return self.node("Add", [x, self.module(mixed, module.out)])

    def serialize(self, inputs: dict[str, tuple[int, ...]], outputs: dict[str, tuple[int, ...]]) -> bytes:
        """The ModelProto."""
        graph = [_bytes(1, node) for node in self.nodes] + [_bytes(2, "sketch-shape")]
        graph += [_bytes(5, tensor) for tensor in self.tensors]
        graph += [_bytes(11, _value(*item)) for item in inputs.items()]
        graph += [_bytes(12, _value(*item)) for item in outputs.items()]
        opset = _bytes(8, _bytes(1, "") + _number(2, 13))
        return _number(1, 7) + _bytes(2, "orfeas") + _bytes(7, b"".join(graph)) + opset


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch normalization at rest."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution with the normalization that follows it."""
    scale, shift = _affine(norm)
    return convolution.weight * scale[:, None, None, None], shift


def to_onnx(network: SketchNet, half: bool = True, other: list[Tensor] | None = None, share: float = 0.0) -> bytes:
    """The bytes of the ONNX model: input "picture" (1, CHANNELS, GRID, GRID), output "surface" (1, 5, ...).

    other, share: see `Graph`; the average of two networks of one descent is better on what neither has seen.
    """
    network = network.to("cpu", torch.float32)
    graph = Graph(np.dtype(np.float16 if half else np.float32), other, share)
    fine = graph.module("picture", network.stem)
    middle = graph.module(fine, network.down_half)
    quarter = graph.module(middle, network.down_quarter)
    y = graph.module(quarter, network.down_coarse)
    y = graph.module(graph.node("Concat", [graph.enlarge(y), quarter], axis=1), network.up_quarter)
    y = graph.enlarge(graph.module(y, network.narrow_half))
    y = graph.module(graph.node("Concat", [y, middle], axis=1), network.up_half)
    y = graph.enlarge(graph.module(y, network.narrow_fine))
    y = graph.module(graph.node("Concat", [y, fine], axis=1), network.up_fine)
    # the prior's channel, scaled to depths, as one more convolution
    weight = torch.zeros(5, learned.CHANNELS, 1, 1)
    weight[0, 17], weight[1, 17] = 0.2, -0.2
    depth = graph.convolve("picture", weight, torch.zeros(5))
    scale = network.scale.reshape(5, 1, 1, 1)
    surface = graph.convolve(y, network.surface.weight * scale, network.surface.bias * scale.flatten())
    graph.node("Add", [surface, depth], "surface")
    cells = (learned.GRID, learned.GRID)
    return graph.serialize({"picture": (1, learned.CHANNELS, *cells)}, {"surface": (1, 5, *cells)})


def export(
    checkpoint: Path, target: Path, half: bool = True, other: list[Tensor] | None = None, share: float = 0.0
) -> int:
    """Write the averaged network of a checkpoint; returns the file's size in bytes. other, share: see `to_onnx`."""
    network = SketchNet().eval()
    network.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["average"])
    target.write_bytes(to_onnx(network, half, other, share))
    return target.stat().st_size
