"""Engines turn a cutout into a shape. One contract for the built-in engine, Hunyuan3D and remote replicas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from orfeas.cutout import Cutout
    from orfeas.mesh import Mesh
    from orfeas.request import Quality


@dataclass(frozen=True)
class Step:
    """One step of a shape job. ``fraction`` in [0, 1] of the shape stage; ``message`` is for people.

    facts: for the recipe: JSON values, and under "latent" an array that is kept beside it.
    """

    fraction: float
    message: str
    facts: Mapping[str, Any] | None = None


@runtime_checkable
class Engine(Protocol):
    """What `orfeas.studio` needs of an engine.

    `shape` is a plain generator of picklable values: any number of `Step`, then exactly one `Mesh`, last. The caller
    owns the loop, so progress, timing and cancel are the caller's business: closing the generator cancels the job, and
    work stops at the latest at the next step. An engine opens no files but its weights and knows no user interface.
    The same cutout, quality and seed give the same mesh. As many threads as there are ``slots`` may use it at once.
    """

    name: str  # "sketch", "hunyuan3d"; the key of `orfeas.request.QUALITIES`
    title: str  # for people
    device: str  # "cpu", "cuda:0"
    reason: str  # why this engine and this device, in a sentence
    caveat: str  # what the user should know about its results, in a sentence; "" if nothing
    slots: int  # how many shapes it makes at once; 1 on one device
    version: str  # changes whenever the same request could give another mesh

    def load(self) -> None:
        """Make ready to run: read weights, warm up. Called once, may take long."""

    def health(self) -> dict[str, Any]:
        """Plain facts for /health and `doctor`. Must be quick and safe while a job runs."""

    def shape(self, cutout: Cutout, quality: Quality, seed: int) -> Iterator[Step | Mesh]:
        """Yield steps, then the mesh: closed, Y up, front +Z, about [-1, 1], the picture's right at +X."""

    def close(self) -> None:
        """Give back memory and threads. The engine cannot be used afterwards."""
