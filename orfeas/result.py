"""A finished job: a folder in the library, and what its recipe says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orfeas.errors import BadRequest
from orfeas.request import GenerationRequest


@dataclass(frozen=True)
class Result:
    """A finished job: a folder in the library and what is in it.

    files: "model" (the format asked for), "glb", "preview" (the same scaled to one unit, for viewers), "poster",
        "turntable", "picture", "cutout" and "recipe", and of Hunyuan3D "latent", each with its path.
    report: what `orfeas.mesh.report` found, JSON values. facts: engine, seconds a stage and memory, JSON values.
    notes: sentences that the user should read.
    """

    id: str
    folder: Path
    name: str
    files: Mapping[str, Path]
    request: GenerationRequest
    report: Mapping[str, Any]
    facts: Mapping[str, Any]
    notes: tuple[str, ...]


def load_result(folder: Path) -> Result | None:
    """The result in a folder of the library; None where there is none that this version can read."""
    try:
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        files = {key: folder / Path(name).name for key, name in recipe["files"].items()}
        request = GenerationRequest.from_options(files["picture"], recipe["request"])
        return Result(
            id=folder.name,
            folder=folder,
            name=request.name,
            files=files,
            request=request,
            report=recipe["report"],
            facts=recipe["facts"],
            notes=tuple(recipe["notes"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, BadRequest):
        return None
