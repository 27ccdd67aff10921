"""``python -m orfeas verify``: whether every result of the library is still what it was when it was made."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orfeas.library import Library


@dataclass(frozen=True)
class Verified:
    """problems: what is wrong, in words; (): nothing is. hashed: False if its recipe, of an earlier version, has no
    hashes; then its files are there, and nobody can tell more."""

    id: str
    problems: tuple[str, ...]
    hashed: bool = True


def verify_library(library: Library) -> Iterator[Verified]:
    """Each result of the index and of the folders."""
    entered = {result.id for result in library.index.results()}
    there = {folder.name for folder in library.results.glob("*")} if library.results.is_dir() else set()
    for result_id in sorted(entered | there):
        folder = library.find(result_id)
        if folder is None:
            yield Verified(result_id, ("the index has it, and there is no folder",))
            continue
        found = verify_result(folder)
        if result_id not in entered:
            found = Verified(result_id, (*found.problems, "the index does not have it"), found.hashed)
        yield found


def verify_result(folder: Path) -> Verified:
    """The files of one result against the hashes in its recipe."""
    try:
        recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
        names, hashes = set(recipe["files"].values()) - {"recipe.json"}, dict(recipe.get("sha256", {}))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Verified(folder.name, ("recipe.json is missing or damaged",))
    problems = []
    for name in sorted(names):
        file = folder / Path(name).name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif name in hashes and hash_file(file) != hashes[name]:
            problems.append(f"{name} has changed")
    return Verified(folder.name, tuple(problems), bool(hashes))


def hash_file(path: Path) -> str:
    """SHA-256 in hex."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def add_verify_parser(commands) -> None:
    parser = commands.add_parser("verify", help="check every result of the library against its hashes")
    parser.set_defaults(func=run_verify)


def run_verify(arguments: argparse.Namespace) -> int:
    """Print what is wrong, a line each; 1 if anything is. Raises `BadRequest` if there is no library."""
    from orfeas.backup import check_library
    from orfeas.library import Library
    from orfeas.settings import load_settings

    library = Library(load_settings().data_dir)
    check_library(library.root)
    checked: list[Verified] = []
    try:
        for result in verify_library(library):
            checked.append(result)
            for problem in result.problems:
                print(f"{result.id}: {problem}")
    finally:
        library.close()
    wrong = sum(bool(result.problems) for result in checked)
    print(f"verified: {len(checked)} results, {wrong} with problems")
    if unhashed := sum(not result.hashed for result in checked):
        print(f"{unhashed} of them, of an earlier version, have no hashes: their files are there, and that is all")
    return 1 if wrong else 0
