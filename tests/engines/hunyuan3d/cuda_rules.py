"""CUDA's rules without a GPU: tensors of the CPU that say they lie on one, and a mode that refuses what CUDA refuses.

Refused are matrix products of integers, operations that mix the device's tensors with the host's (numbers, which are
tensors without dimensions, may be mixed; so may both sides of a copy), and NumPy's view of a device's tensor. All else
is computed on the CPU, so results can be compared bit for bit. ``is_cuda`` stays false: what asks it is about events
and pinned memory, for which a driver is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Not a device that a test with a GPU would use: tables are remembered by device.
DEVICE = torch.device("cuda", 77)
PRODUCTS = {"matmul", "__matmul__", "__rmatmul__", "mm", "mv", "bmm", "dot", "inner", "vdot"}
PRODUCTS |= {"addmm", "addmv", "addbmm", "baddbmm", "linear", "bilinear", "einsum", "tensordot", "cdist"}
COPIES = {"to", "cpu", "cuda", "copy_"}


class OnDevice(Tensor):
    """Lies on the CPU and, under `CudaRules`, says `DEVICE`."""


class CudaRules(TorchFunctionMode):
    """While it is open, `DEVICE` can be named wherever a device can, and CUDA's rules hold for what lies there."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), dict(kwargs or {})
        tensors = list(_tensors((args, kwargs)))
        here = any(isinstance(tensor, OnDevice) for tensor in tensors)
        if func == Tensor.device.__get__:
            return DEVICE if here else args[0].device
        if here and name not in COPIES:
            _refuse(name, tensors)
        asked = [value for value in (*args, kwargs.get("device")) if isinstance(value, torch.device)]
        asked += [torch.device(value) for value in (*args[1:], kwargs.get("device")) if _names_device(value)]
        goes_there = name != "cpu" and (asked[0].type == "cuda" if asked else here)
        if name == "copy_":
            goes_there = isinstance(args[0], OnDevice)
        args, kwargs = _map(_to_cpu, args), _map(_to_cpu, kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
            if name in ("to", "cpu", "cuda") and goes_there != here:
                result = result.clone()  # what crosses does not share its memory
        return _map(_mark if goes_there else _unmark, result)


def put(module: nn.Module) -> nn.Module:
    """The module with its parameters and buffers on `DEVICE`."""
    for part in module.modules():
        for kept in (part._parameters, part._buffers):
            kept.update({name: _mark(tensor.detach()) for name, tensor in kept.items() if tensor is not None})
    return module


def _refuse(name: str, tensors: list[Tensor]) -> None:
    on_host = [tensor for tensor in tensors if not isinstance(tensor, OnDevice) and tensor.dim() > 0]
    if on_host and name != "__get__":
        raise RuntimeError(f"{name}: found at least two devices, {DEVICE} and cpu {tuple(on_host[0].shape)}")
    if name in PRODUCTS and not all(tensor.is_floating_point() for tensor in tensors):
        raise RuntimeError(f"{name} is not implemented on CUDA for {[tensor.dtype for tensor in tensors]}")
    if name in ("numpy", "__array__"):
        raise TypeError(f"can't convert a tensor of {DEVICE} to numpy")


def _names_device(value: Any) -> bool:
    return isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda")


def _to_cpu(value: Any) -> Any:
    on_device = (isinstance(value, torch.device) and value.type == "cuda") or (_names_device(value) and value != "cpu")
    return torch.device("cpu") if on_device else value


def _mark(value: Any) -> Any:
    return value.as_subclass(OnDevice) if isinstance(value, Tensor) and not isinstance(value, OnDevice) else value


def _unmark(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, OnDevice) else value


def _map(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _map(change, item) for key, item in value.items()}
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        items = [_map(change, item) for item in value]
        return type(value)(items) if type(value) in (tuple, list) or hasattr(value, "n_fields") else type(value)(*items)
    return change(value)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)
