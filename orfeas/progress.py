"""How a job goes on: its stages, their shares of the whole, and the seconds each took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

# Each stage of a job and its share of the job's progress bar, in order. The shares follow measured seconds
# (benchmarks/sketch.py; for Hunyuan3D the shape is nearly everything).
STAGE_SHARES: Mapping[str, Mapping[str, float]] = {
    "sketch": {
        "picture": 0.04, "cutout": 0.16, "shape": 0.30, "solid": 0.12, "texture": 0.12, "report": 0.04, "files": 0.22,
    },
    "hunyuan3d": {
        "picture": 0.01, "cutout": 0.03, "shape": 0.82, "solid": 0.05, "texture": 0.03, "report": 0.02, "files": 0.04,
    },
}  # fmt: skip
STAGES = tuple(STAGE_SHARES["sketch"])


@dataclass(frozen=True)
class Progress:
    """Where a job is. ``fraction`` of the whole job, 0 to 1, never falls; ``stage`` is "waiting" or one of `STAGES`.

    ahead: how many jobs have to end before a waiting one runs.
    """

    stage: str
    fraction: float
    message: str
    ahead: int = 0


@dataclass
class StageClock:
    """Turns stages into `Progress` and keeps each stage's seconds."""

    shares: Mapping[str, float]
    seconds: dict[str, float] = field(default_factory=dict)
    stage: str = ""
    _since: float = 0.0

    def enter(self, stage: str, message: str) -> Progress:
        self.stop()
        self.stage, self._since = stage, time.perf_counter()
        return self.at(0.0, message)

    def at(self, fraction: float, message: str) -> Progress:
        """Progress at ``fraction`` of the current stage."""
        before = sum(share for stage, share in self.shares.items() if self._is_before(stage))
        return Progress(self.stage, min(1.0, before + self.shares[self.stage] * fraction), message)

    def stop(self) -> None:
        if self.stage:
            spent = time.perf_counter() - self._since
            self.seconds[self.stage] = round(self.seconds.get(self.stage, 0.0) + spent, 3)

    def _is_before(self, stage: str) -> bool:
        order = list(self.shares)
        return order.index(stage) < order.index(self.stage)
