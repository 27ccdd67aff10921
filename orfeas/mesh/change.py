"""What a step of finishing did to a mesh: a sentence for people and the numbers behind it for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Change:
    """One thing that was done to a mesh.

    step: the step's stable name, such as "close_holes". sentence: for people. numbers: JSON values.
    """

    step: str
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"step": self.step, "sentence": self.sentence, "numbers": dict(self.numbers)}


def counted(number: int, singular: str, plural: str = "") -> str:
    """ "1 hole", "2 holes", "12,000 faces": how every sentence about a mesh counts."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
