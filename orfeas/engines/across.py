"""What an engine in another process sends: its steps and its mesh, and failures as values.

Neither Ray nor ZeroGPU hands an exception over as it was: ZeroGPU keeps the name of its class alone. So what a user may
read travels as a `Failure`, and is raised again where the caller is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orfeas.errors import OrfeasError, OutOfMemory
from orfeas.telemetry import report_bug

if TYPE_CHECKING:
    from orfeas.engines import Step
    from orfeas.mesh import Mesh


@dataclass(frozen=True)
class Failure:
    """The job ended so."""

    error: OrfeasError


def send(events: Generator[Step | Mesh]) -> Iterator[Step | Mesh | Failure]:
    """``events`` of `Engine.shape`, and a `Failure` last of all where they end in an exception; a bug is logged here.

    Closing this closes ``events``.
    """
    try:
        with contextlib.closing(events):
            yield from events
    except OrfeasError as error:
        yield Failure(error)
    except MemoryError:
        sentence = "The machine that made the shape ran out of memory: choose a lower quality and try again."
        yield Failure(OutOfMemory(sentence))
    except Exception as bug:
        yield Failure(OrfeasError(report_bug(bug), "internal"))


def receive(event: Step | Mesh | Failure) -> Step | Mesh:
    """The event as the caller may use it. Raises what a `Failure` holds.

    Arrays that lie in memory shared between processes cannot be written to: a mesh gets its own.
    """
    if isinstance(event, Failure):
        raise event.error
    if not hasattr(event, "vertices"):
        return event
    from orfeas.mesh import Mesh

    # The engines' meshes have neither colours nor texture: those are the studio's business.
    return Mesh(np.array(event.vertices), np.array(event.faces))
