"""From noise to latents: Euler steps along the flow, guided away from what the network makes of no picture.

Time runs from 0, noise, to 1, data. The public schedule places its N times on both ends of [0, 1] and then repeats the
last: the N-th step has length 0, and leaving it out changes nothing. State and times stay in float32 whatever the
weights' type.

Approximations, off unless asked for: guidance in a middle interval only (Kynkäänniemi et al., "Applying Guidance in a
Limited Interval", 2024) and the two-step Adams-Bashforth method, which is of second order and needs fewer steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from orfeas.engines.hunyuan3d.approximations import SOLVERS
from orfeas.engines.hunyuan3d.dit import Dit, DitContext
from orfeas.engines.hunyuan3d.noise import draw_normal


def draw_noise(seed: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float16) -> Tensor:
    """Standard normal noise as float32 on the CPU, rounded through ``dtype`` as the public pipeline's float16 draw is.

    Drawn on the CPU, in float32 and by `noise.draw_normal`, so that a seed means the same everywhere. It is also the
    public pipeline's noise for that seed where its CPU has AVX2 and its torch draws half precision from the same stream
    (2.13 does; 2.8 draws other numbers).
    """
    return draw_normal(shape, torch.Generator("cpu").manual_seed(seed)).to(dtype).float()


def flow_times(steps: int) -> Tensor:
    """The ``steps`` + 1 times of the public schedule: ``steps`` from 0 to 1 inclusive, and 1 once more. (steps + 1,)"""
    if steps < 2:
        raise ValueError(f"sampling takes at least 2 steps, not {steps}")
    times = np.linspace(0, 1, steps).astype(np.float32)
    return torch.from_numpy(np.append(times, np.float32(1)))


def sample(
    dit: Dit,
    context: Tensor,
    *,
    steps: int,
    noise: Tensor,
    guidance: float = 5.0,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    solver: str = "euler",
    halves_in_turn: bool = False,
) -> Iterator[tuple[int, int] | Tensor]:
    """Yield (steps done, steps in all) after each step, then the latents (B, T, channels), float32, on the device.

    ``context`` (B, S, context width) is the conditioner's; ``noise`` (B, T, channels) is `draw_noise`'s. ``steps`` is
    the public count, of which the last is a step of no length: N steps are N - 1 evaluations.
    ``halves_in_turn`` runs the guided batch as two: half the activations, the same result.
    Approximations: ``guidance_interval``, the times between which guidance acts, and ``solver`` "adams-bashforth".
    """
    count = steps - 1
    prepared = dit.prepare_context(context)
    states = integrate(
        dit,
        prepared,
        noise.to(context.device, torch.float32),
        flow_times(steps),
        guidance=guidance,
        guidance_interval=guidance_interval,
        solver=solver,
        halves_in_turn=halves_in_turn,
    )
    x = noise
    waiting = None
    for done, x in enumerate(states, start=1):
        # Stay one step ahead of the device, no more: the count shown is true and the device never runs dry.
        if x.is_cuda:
            if waiting is not None:
                waiting.synchronize()
            waiting = torch.cuda.Event()
            waiting.record(torch.cuda.current_stream(x.device))
        yield done, count
    yield x


def integrate(
    dit: Dit,
    context: DitContext,
    x: Tensor,
    times: Tensor,
    *,
    guidance: float = 5.0,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    solver: str = "euler",
    halves_in_turn: bool = False,
) -> Iterator[Tensor]:
    """Yield the state after each step of a length above 0, starting from ``x``. `sample` says what the options are."""
    if solver not in SOLVERS:
        raise ValueError(f"the solver is one of {', '.join(SOLVERS)}, not {solver!r}")
    times = times.to(torch.float32)
    lengths = times.diff().tolist()
    first, last = guidance_interval
    previous: tuple[Tensor, float, float] | None = None  # velocity, length and guidance of the step before
    for time, length in zip(model_times(times[:-1]).tolist(), lengths, strict=True):
        if length == 0:
            continue
        scale = guidance if first <= time <= last else 1.0
        velocity = guided_velocity(dit, x, time, context, scale, halves_in_turn)
        step = velocity
        # Adams-Bashforth extrapolates from the step before; across a jump of the guidance there is nothing to extend.
        if solver == "adams-bashforth" and previous is not None and previous[2] == scale:
            step = velocity + (length / (2 * previous[1])) * (velocity - previous[0])
        previous = (velocity, length, scale)
        x = x + length * step
        yield x


def model_times(times: Tensor) -> Tensor:
    """The times as the network is told them: in thousandths and back, never rounded to half precision on the way."""
    return times * 1000 / 1000


def guided_velocity(
    dit: Dit, x: Tensor, time: float, context: DitContext, guidance: float, halves_in_turn: bool = False
) -> Tensor:
    """The velocity at one time, float32. With guidance 1 the half without the picture cancels and is not run."""
    # Filled in, not copied: a copy from the host would wait for the step before.
    t = torch.full((len(x),), time, dtype=torch.float32, device=x.device)
    if guidance == 1:
        return dit(x, t, context)
    if halves_in_turn:
        with_picture, without = dit(x, t, context), dit(x, t, context.without_pictures())
    else:
        with_picture, without = dit(torch.cat([x, x]), torch.cat([t, t]), context).chunk(2)
    return without + guidance * (with_picture - without)
