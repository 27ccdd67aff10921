"""What may be inexact for speed: off by default, asked for by name, and named in the recipe and on the page."""

from __future__ import annotations

import math
from dataclasses import dataclass

from orfeas.engines.hunyuan3d.sampler import SOLVERS
from orfeas.errors import BadRequest

FEWER_STEPS = 0.6  # of the exact solver's, with the second-order one
MIDDLE = (0.1, 0.8)  # the times within which guidance acts when it is approximated


@dataclass(frozen=True)
class Approximations:
    """Faster, and no longer the exact result. Off by default; what is on is named in the recipe and the caveat.

    solver: "euler" (exact) or "adams-bashforth", of second order, which then takes `FEWER_STEPS` of the steps.
    guidance_interval: the times within which guidance acts; (0, 1) is exact. top_latents: each point of the field
    attends to the third of the latents that matter most around it.
    """

    solver: str = "euler"
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    top_latents: bool = False

    @classmethod
    def parse(cls, text: str) -> Approximations:
        """From a list such as "solver,guidance,latents" (``ORFEAS_HUNYUAN3D_APPROXIMATE``); "" is exact."""
        names = {name.strip() for name in text.lower().split(",")} - {""}
        unknown = sorted(names - {"solver", "guidance", "latents"})
        if unknown:
            raise BadRequest(f"Unknown approximation {unknown[0]!r}: use solver, guidance or latents.", "bad_choice")
        return cls(
            solver="adams-bashforth" if "solver" in names else "euler",
            guidance_interval=MIDDLE if "guidance" in names else (0.0, 1.0),
            top_latents="latents" in names,
        )

    def __post_init__(self):
        if self.solver not in SOLVERS:
            raise BadRequest(f"The solver cannot be {self.solver!r}: use {' or '.join(SOLVERS)}.", "bad_choice")
        low, high = self.guidance_interval
        if not 0 <= low <= high <= 1:
            raise BadRequest(
                f"The guidance interval cannot be {low} to {high}: use 0 <= low <= high <= 1.", "bad_choice"
            )

    def names(self) -> list[str]:
        """What differs from the exact way, for people."""
        low, high = self.guidance_interval
        guided = [] if (low, high) == (0.0, 1.0) else [f"guidance only from time {low:g} to {high:g}"]
        solver = [] if self.solver == "euler" else [f"the {self.solver} solver at {FEWER_STEPS:.0%} of the steps"]
        return solver + guided + (["a third of the latents for each point"] if self.top_latents else [])

    def count_steps(self, steps: int) -> int:
        """The steps to take where the exact way takes ``steps``."""
        return steps if self.solver == "euler" else max(2, math.ceil(steps * FEWER_STEPS))
