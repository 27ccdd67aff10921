"""What may be inexact for speed: off by default, asked for by name, and named in the recipe and on the page.

Imports no torch, so that the setting is judged wherever ORFEAS starts.

How far each is from the exact way was measured with random weights only (the tests' small networks, four pictures and
seeds, 30 steps), as the root mean square of the difference over that of the exact result. Trained weights may be kinder
or harsher; with those, nothing was measured.

* solver: 1.6 to 4.3 % of the latents. (Euler's 30 steps are themselves 1.5 to 13 % away from its 400.)
* guidance: 16 to 34 % of the latents: another shape of the same picture rather than the same shape.
* latents: 1.6 to 15 % of the field's values, and up to 6 % of the box's points change sides.
* the transformer's experts in 8 bit (`residency`): 0.3 to 3.9 % of the latents. Not asked for here: taken where memory
  allows no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orfeas.errors import BadRequest

SOLVERS = ("euler", "adams-bashforth")
FEWER_STEPS = 0.6  # of the exact solver's, with the second-order one
# What the docstring says of each, for the page and the recipe.
OFF = {
    "solver": "1.6 to 4.3 % off, measured with random weights only",
    "guidance": "16 to 34 % off, measured with random weights only",
    "latents": "1.6 to 15 % off, measured with random weights only",
    "8 bit": "0.3 to 3.9 % off, measured with random weights only",
}
EXPERTS_IN_8_BIT = f"the transformer's experts in 8 bit ({OFF['8 bit']})"
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
        """From ``ORFEAS_HUNYUAN3D_APPROXIMATE``, a list such as "solver,guidance,latents"; "" is exact.

        Raises `BadRequest` that names the setting.
        """
        names = {name.strip() for name in text.lower().split(",")} - {""}
        unknown = sorted(names - {"solver", "guidance", "latents"})
        if unknown:
            raise BadRequest(
                f"ORFEAS_HUNYUAN3D_APPROXIMATE cannot name {unknown[0]!r}: use solver, guidance or latents, with commas"
                " between them, or leave it empty.",
                "bad_setting",
            )
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

    def sampling_keys(self) -> list[str]:
        """What is on, as `parse` takes it, and by which the latents differ."""
        on = {"solver": self.solver != "euler", "guidance": self.guidance_interval != (0.0, 1.0)}
        return [key for key, is_on in on.items() if is_on]

    def field_keys(self) -> list[str]:
        """The same of that by which the field of given latents differs."""
        return ["latents"] if self.top_latents else []

    def sampling_names(self) -> list[str]:
        """What differs from the exact way, for people: that by which the latents do."""
        low, high = self.guidance_interval
        guided = (
            [] if (low, high) == (0.0, 1.0) else [f"guidance only from time {low:g} to {high:g} ({OFF['guidance']})"]
        )
        solver = (
            []
            if self.solver == "euler"
            else [f"the {self.solver} solver at {FEWER_STEPS:.0%} of the steps ({OFF['solver']})"]
        )
        return solver + guided

    def field_names(self) -> list[str]:
        """The same of that by which the field of given latents differs."""
        return [f"a third of the latents for each point ({OFF['latents']})"] if self.top_latents else []

    def count_steps(self, steps: int) -> int:
        """The steps to take where the exact way takes ``steps``."""
        return steps if self.solver == "euler" else max(2, math.ceil(steps * FEWER_STEPS))
