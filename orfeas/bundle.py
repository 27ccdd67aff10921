"""Several models in one ZIP, with a manifest.json that says what each was made of, and what could not be made."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orfeas import __version__

if TYPE_CHECKING:
    from orfeas.result import Result

MANIFEST = "manifest.json"
COMPRESSION = {".stl": zipfile.ZIP_DEFLATED, ".obj": zipfile.ZIP_DEFLATED, ".ply": zipfile.ZIP_DEFLATED}


@dataclass(frozen=True)
class Entry:
    """One picture's outcome: its result, or the sentence that says why there is none. facts: more for the manifest."""

    picture: str
    result: Result | None = None
    error: str = ""
    code: str = ""
    facts: dict[str, Any] | None = None


def write_bundle(path: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    """Write the ZIP and return its manifest. The model files have the names of their results, made unique."""
    names = unique_names([entry.result.files["model"].name for entry in entries if entry.result])
    made, failed = [], []
    with zipfile.ZipFile(path, "w") as archive:
        for entry in entries:
            if entry.result is None:
                failed.append({"picture": entry.picture, "error": entry.error, "code": entry.code})
                continue
            model, name = entry.result.files["model"], names[len(made)]
            # 3MF and GLB are compressed already, or hardly compress
            archive.write(model, name, COMPRESSION.get(model.suffix, zipfile.ZIP_STORED), compresslevel=3)
            made.append(
                {"picture": entry.picture, "file": name, **describe_result(entry.result), **(entry.facts or {})}
            )
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        manifest = {"orfeas": __version__, "created": created, "made": made, "failed": failed}
        archive.writestr(MANIFEST, json.dumps(manifest, indent=2) + "\n", zipfile.ZIP_DEFLATED)
    return manifest


def describe_result(result: Result) -> dict[str, Any]:
    """What a manifest, and an API caller, gets of a result beside its file: JSON values."""
    return {
        "id": result.id,
        "name": result.name,
        "request": result.request.options(),
        "report": dict(result.report),
        "facts": dict(result.facts),
        "notes": list(result.notes),
    }


def unique_names(names: Sequence[str]) -> list[str]:
    """File names that differ, also where letters' case does not count: a-100mm.stl, a-100mm-2.stl, ..."""
    taken, unique = set(), []
    for name in names:
        stem, suffix = Path(name).stem, Path(name).suffix
        number, wanted = 2, name
        while wanted.lower() in taken:
            wanted, number = f"{stem}-{number}{suffix}", number + 1
        taken.add(wanted.lower())
        unique.append(wanted)
    return unique
