"""What lies in the device's memory, and when: all three networks, one at a time, or one with its experts in 8 bit.

The published weights are 7.1 GB in half precision (the transformer 6.1 of them); the activations of a guided step take
about 0.9 GB, a volume decode as much as it finds free. `choose_residency` turns the free memory into one of three
policies; `Networks` carries it out. A network that has to leave is dropped, not moved: its file stays mapped, so it
comes back from the page cache.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orfeas.engines.gpu import explain_broken_gpu
from orfeas.engines.hunyuan3d.checkpoint import PARTS, open_checkpoint
from orfeas.engines.hunyuan3d.config import ModelConfig
from orfeas.engines.hunyuan3d.moe import MixtureOfExperts, StackedLinear
from orfeas.engines.hunyuan3d.weights import assemble, build_meta, check_checkpoint, load_part, recipes
from orfeas.errors import EngineUnavailable
from orfeas.telemetry import log

RESIDENT, SEQUENTIAL, INT8 = "resident", "sequential", "int8"
# Policy -> gigabytes (1e9 bytes) that have to be free for the released model in half precision, and what it does.
# Counted from the sizes of tensors, the most at once is 8.15, 6.71 and 4.92; the rest is room for the field's points,
# the allocator's rounding (a model of it reserved 6.99 for the second, 5.17 for the third), what CUDA's libraries load,
# and what else is on the card. Cards sold as 12, 8 and 6 GB leave this much free.
POLICIES = {
    RESIDENT: (10.5, "all networks stay in memory"),
    SEQUENTIAL: (7.4, "one network at a time is in memory"),
    INT8: (5.5, "one network at a time is in memory, the transformer's experts in 8 bit"),
}
RELEASED_GB = 7.14  # of half-precision weights that `POLICIES` is about


@dataclass(frozen=True)
class Residency:
    """name: a key of `POLICIES`. reason: why, in a sentence with the numbers."""

    name: str
    reason: str

    def step_down(self) -> Residency | None:
        """The next leaner policy, or None after the last."""
        names = list(POLICIES)
        following = names[names.index(self.name) + 1 :]
        if not following:
            return None
        return Residency(following[0], f"Memory ran out with {self.name!r}, so {POLICIES[following[0]][1]}.")


def choose_residency(free_gb: float, model_gb: float = RELEASED_GB, device: str = "cuda:0") -> Residency:
    """The first policy that fits ``free_gb`` gigabytes (1e9 bytes).

    model_gb: all weights in the type they will have on the device; needs grow with it (float32 on a CPU doubles them).
    Raises `EngineUnavailable` with the numbers where not even the leanest fits.
    """
    scale = model_gb / RELEASED_GB
    for name, (needed, what) in POLICIES.items():
        if free_gb >= needed * scale:
            return Residency(
                name, f"{free_gb:.1f} GB are free on {device} and {_gb(needed * scale)} enough, so {what}."
            )
    raise EngineUnavailable(
        f"Hunyuan3D needs at least {_gb(POLICIES[INT8][0] * scale)} of free memory, but {device} has {free_gb:.1f} GB:"
        " free some, or run the built-in engine with ORFEAS_ENGINE=sketch.",
    )


def free_gigabytes(device: torch.device) -> float:
    """Memory that a process can still take: of the GPU, or of the machine (Linux; elsewhere its total is unknown).

    Raises `EngineUnavailable` where the GPU does not answer.
    """
    if device.type == "cuda":
        try:
            free, _ = torch.cuda.mem_get_info(device)
        except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
            raise EngineUnavailable(explain_broken_gpu(str(device), error), "broken_gpu") from error
        return (free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)) / 1e9
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return float("inf")


def keep_off_system_memory(device: torch.device) -> None:
    """On Windows, let this process take no more than is free now.

    NVIDIA's driver there would lend it the machine's memory, many times slower, in place of the error to step down on.
    """
    if device.type != "cuda" or sys.platform != "win32":
        return
    _, total = torch.cuda.mem_get_info(device)
    ours = torch.cuda.memory_allocated(device) / 1e9
    torch.cuda.set_per_process_memory_fraction(min(1.0, (free_gigabytes(device) + ours) * 1e9 / total), device)


def model_gigabytes(config: ModelConfig, dtype: torch.dtype) -> float:
    """All three networks' parameters as ``dtype``, in 1e9 bytes."""
    size = torch.empty((), dtype=dtype).element_size()
    return sum(p.numel() for module in build_meta(config).values() for p in module.parameters()) * size / 1e9


class Networks:
    """The parts "conditioner", "model" and "vae" of one file of weights, brought to the device as the policy allows."""

    def __init__(
        self, weights: Path, config: ModelConfig, device: torch.device, dtype: torch.dtype, residency: Residency
    ):
        self.config, self.device, self.dtype = config, device, dtype
        self.residency = residency
        self._checkpoint = open_checkpoint(weights)
        check_checkpoint(self._checkpoint, config)  # a wrong file is refused before the first job, not in it
        self._here: dict[str, nn.Module] = {}

    def preload(self) -> None:
        """Bring what may stay: everything if all is to be resident, else nothing."""
        if self.residency.name == RESIDENT:
            for part in PARTS:
                self.get(part)

    def holds(self, part: str) -> bool:
        """Whether `get` has nothing to read."""
        return part in self._here

    def get(self, part: str) -> nn.Module:
        """The network, on the device. Others may have to leave: hold no reference to one across calls."""
        if part not in self._here:
            if self.residency.name != RESIDENT:
                self.drop()
            self._here[part] = self._bring(part)
        return self._here[part]

    def drop(self, keep: str = "") -> None:
        """Give back the memory of all networks, or of all but one."""
        self._here = {part: module for part, module in self._here.items() if part == keep}
        release_memory(self.device)

    def step_down(self) -> Residency | None:
        """Free all and go on with the next leaner policy; None if there is none (all is freed all the same)."""
        self.drop()
        leaner = self.residency.step_down()
        if leaner is not None:
            self.residency = leaner
            log.warning("stepped_down", reason=leaner.reason)
        return leaner

    def _bring(self, part: str) -> nn.Module:
        module = build_meta(self.config)[part]
        if part == "model" and self.residency.name == INT8:
            return load_int8_experts(module, self._checkpoint.part(part), self.device, self.dtype)
        return load_part(module, self._checkpoint, part, device=self.device, dtype=self.dtype)


def release_memory(device: torch.device) -> None:
    """Return what nothing refers to any more to the device, so that others (and the next network) can have it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


# --- 8-bit experts ----------------------------------------------------------------------------------------------------


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(..., outputs, inputs) -> int8 of the same shape and float32 scales (..., outputs, 1): weight = int8 * scale.

    Symmetric, one scale a row, so that the largest value of the row is 127.
    """
    scale = (weight.float().abs().amax(-1, keepdim=True) / 127).clamp(min=1e-12)
    return (weight.float() / scale).round().to(torch.int8), scale


def widen(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """int8 * float32 as ``dtype``: multiplied in float32 and rounded once, without a float32 copy of the matrix."""
    wide = torch.empty_like(weight, dtype=dtype)
    return torch.mul(weight, scale, out=wide)


class Int8Linear(nn.Module):
    """A linear layer whose weight is kept in 8 bit and widened for each product; inputs and outputs are not rounded.

    Scales stay in float32: half precision would round those of small weights coarsely.
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor):
        super().__init__()
        for name, tensor in (("weight", weight), ("scale", scale), ("bias", bias)):
            self.register_buffer(name, tensor)

    def forward(self, rows: Tensor) -> Tensor:
        return F.linear(rows, widen(self.weight, self.scale, rows.dtype), self.bias)


class Int8StackedLinear(Int8Linear):
    """The same for each expert: `moe.StackedLinear`'s weight (experts, outputs, inputs) and bias (experts, outputs)."""

    def forward(self, rows: Tensor, expert: int) -> Tensor:
        weight = widen(self.weight[expert], self.scale[expert], rows.dtype)
        return F.linear(rows, weight, self.bias[expert])


def load_int8_experts(
    module: nn.Module, tensors: dict[str, Tensor], device: torch.device, dtype: torch.dtype
) -> nn.Module:
    """Fill the transformer (built on ``meta``) as `load_part` does, with every expert's linear layers in 8 bit.

    One expert matrix at a time is on the device in full precision, so the peak is that of the result; none is copied in
    the host's memory.
    """
    plan = recipes(module, "model")
    for name, layer in list(module.named_modules()):
        if not isinstance(layer, MixtureOfExperts):
            continue
        owners = [(layer.experts, "up"), (layer.experts, "down"), (layer, "shared_fc1"), (layer, "shared_fc2")]
        for owner, child in owners:
            prefix = f"{name}.{'experts.' if owner is layer.experts else ''}{child}."
            bias = assemble(plan.pop(prefix + "bias"), tensors, device, dtype)
            sources = plan.pop(prefix + "weight").sources  # of each expert, or of the shared one
            matrices = [quantize_rows(tensors[key].to(device).to(dtype)) for key in sources]
            weight, scale = (torch.stack(parts) for parts in zip(*matrices, strict=True))
            stacked = isinstance(getattr(owner, child), StackedLinear)
            kind = Int8StackedLinear if stacked else Int8Linear
            setattr(owner, child, kind(*((weight, scale) if stacked else (weight[0], scale[0])), bias))
    state = {ours: assemble(recipe, tensors, device, dtype) for ours, recipe in plan.items()}
    state |= {ours: value for ours, value in module.state_dict().items() if not value.is_meta}
    module.requires_grad_(False).load_state_dict(state, strict=True, assign=True)  # as in `load_part`
    return module.eval()


def _gb(value: float) -> str:
    return f"{value:.1f} GB" if value >= 0.1 else f"{value * 1000:.1f} MB"
