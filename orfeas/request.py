"""What one job asks for. Every option, bound and default of ORFEAS is in this file, and so is its error message."""

from __future__ import annotations

import math
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orfeas.errors import BadRequest

# --- choices, the first of each is the default unless said otherwise below -----------------------------------------
QUALITY_NAMES = ("draft", "standard", "high")
FORMATS = ("stl", "glb", "obj", "ply", "3mf")
BACKGROUNDS = ("auto", "keep", "remove")
TEXTURES = ("photo", "none")
BASES = ("none", "cut", "plinth")
ORIENTATIONS = ("picture", "standing", "flattest")

# --- bounds, inclusive ---------------------------------------------------------------------------------------------
SIZE_MM = (1.0, 1000.0)
SEED = (0, 2**32 - 1)
MAX_FACES = (100, 2_000_000)
MAX_TAPS = 64
BEST_OF = (2, 8)  # how many seeds may be tried at once
MAX_NAME = 60  # characters
MAX_NAME_BYTES = 180  # in UTF-8; file systems take 255 with size, seed and ending
# What may be asked for besides the picture, in the order in which every way in takes it; a new one comes last.
OPTIONS = ("quality", "format", "size_mm", "seed", "background", "texture", "base", "max_faces", "orientation")
# Left out of what is recorded while they have this value: what was asked before there were such options is still the
# same request, and an earlier version, after a rollback, can read it.
_CAME_LATER = {"orientation": "picture"}
_UNSEEN_LETTERS = "\u115f\u1160\u3164\uffa0"  # Hangul fillers: letters to Unicode, and nothing to the eye


@dataclass(frozen=True)
class Quality:
    """One row of the table below. ``grid`` and ``steps`` mean what the engine says; ``faces`` bounds the result.

    seconds, memory_gb: as measured by ``benchmarks/`` on the machine that ``measured_on`` names; None where nobody has
    measured yet (the page then says "not measured").
    """

    grid: int
    steps: int
    faces: int
    seconds: float | None = None
    memory_gb: float | None = None
    measured_on: str = ""


_SKETCH_MACHINE = "a 2-core server; x86-64, benchmarks/sketch.py"

# A binary STL has 84 + 50 bytes a face: 60,000 faces are 3.0 MB.
QUALITIES: Mapping[str, Mapping[str, Quality]] = {
    "sketch": {
        "draft": Quality(grid=96, steps=1, faces=15_000, seconds=3.3, memory_gb=0.64, measured_on=_SKETCH_MACHINE),
        "standard": Quality(grid=160, steps=1, faces=60_000, seconds=4.7, memory_gb=0.69, measured_on=_SKETCH_MACHINE),
        "high": Quality(grid=256, steps=1, faces=150_000, seconds=8.5, memory_gb=0.83, measured_on=_SKETCH_MACHINE),
    },
    "hunyuan3d": {
        "draft": Quality(grid=256, steps=15, faces=40_000),
        "standard": Quality(grid=384, steps=30, faces=100_000),
        "high": Quality(grid=512, steps=50, faces=250_000),
    },
}


@dataclass(frozen=True)
class Tap:
    """A correction of the cutout: the thing at (x, y) belongs to the subject, or does not.

    x, y: fractions of the picture's width and height, from its top left corner (as the picture is shown, EXIF
    orientation applied).
    """

    x: float
    y: float
    include: bool


def draw_seed() -> int:
    """A random seed in `SEED`."""
    return secrets.randbelow(SEED[1] + 1)


@dataclass(frozen=True)
class GenerationRequest:
    """One job, checked on construction. Raises `BadRequest` with the allowed range.

    picture: the file's path, or its bytes (JPEG, PNG or WebP; judged in `orfeas.picture`).
    name: what the result is called; taken from the path where there is one. Only letters, digits and dashes are kept.
    quality: "draft", "standard" or "high". format: "stl", "glb", "obj", "ply" or "3mf".
    size_mm: longest side of the result, 1 to 1000.
    seed: 0 to 2**32-1; None draws one, which the result names.
    background: "auto" (use transparency if there is any, else find the subject), "keep" (use the transparency as it
        is) or "remove" (find the subject in any case).
    texture: "photo" (colours from the picture) or "none".
    base: how it stands: "none" (as it is), "cut" (cut flat at the bottom) or "plinth" (on a plate), as high as
        `orfeas.mesh.finish.usual_base` says; the longest side stays size_mm.
    max_faces: at most so many triangles; None leaves it to the quality.
    orientation: "picture" (as the picture shows it), "standing" (tilted to where it stands steadiest, for what was seen
        from above leans towards the camera) or "flattest" (turned to lie on its largest flat side); before the base is
        made.
    taps: corrections of the cutout, applied in order.
    """

    picture: Path | bytes = field(repr=False)
    quality: str = "standard"
    format: str = "stl"
    size_mm: float = 100.0
    seed: int | None = None
    background: str = "auto"
    texture: str = "photo"
    base: str = "none"
    max_faces: int | None = None
    orientation: str = "picture"
    taps: tuple[Tap, ...] = ()
    name: str = ""

    def __post_init__(self):
        put = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731 (the dataclass is frozen)
        if isinstance(self.picture, str):
            put("picture", Path(self.picture))
        if not isinstance(self.picture, Path | bytes):
            raise BadRequest("No picture was given: choose a JPEG, PNG or WebP file.", "no_picture")
        _choice("quality", self.quality, QUALITY_NAMES)
        _choice("format", self.format, FORMATS)
        _choice("background", self.background, BACKGROUNDS)
        _choice("texture", self.texture, TEXTURES)
        _choice("base", self.base, BASES)
        _choice("orientation", self.orientation, ORIENTATIONS)
        put("size_mm", _number("size_mm", self.size_mm, SIZE_MM, " millimetres"))
        put("seed", draw_seed() if self.seed in (None, "") else _integer("seed", self.seed, SEED))
        if self.max_faces in (None, ""):
            put("max_faces", None)
        else:
            put("max_faces", _integer("max_faces", self.max_faces, MAX_FACES))
        put("taps", _taps(self.taps))
        put("name", clean_name(self.name or (self.picture.stem if isinstance(self.picture, Path) else "")))

    def options(self) -> dict[str, Any]:
        """Everything but the picture, as JSON values: what a recipe records and `from_options` takes."""
        options = {key: getattr(self, key) for key in (*OPTIONS, "name")}
        options = {key: value for key, value in options.items() if key not in _CAME_LATER or value != _CAME_LATER[key]}
        options["taps"] = [[tap.x, tap.y, "include" if tap.include else "exclude"] for tap in self.taps]
        return options

    @classmethod
    def from_options(cls, picture: Path | bytes, options: Mapping[str, Any]) -> GenerationRequest:
        """A request from a picture and a mapping of options; an unknown option is refused by name."""
        known = [key for key in cls.__dataclass_fields__ if key != "picture"]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise BadRequest(f"Unknown option {unknown[0]!r}: use {_listed(known)}.", "unknown_option")
        return cls(picture, **options)


def with_seeds(request: GenerationRequest, count: Any) -> list[GenerationRequest]:
    """The request with ``count`` seeds, the first its own, the others drawn. Raises `BadRequest` outside `BEST_OF`."""
    count = _integer("best_of", count, BEST_OF)
    seeds = {request.seed: None}
    while len(seeds) < count:
        seeds[draw_seed()] = None
    return [replace(request, seed=seed) for seed in seeds]


def number_name(name: str, number: int) -> str:
    """``name`` with ``-number`` behind it, the name shortened where both would be too long."""
    ending = f"-{number}"
    return _shorten(name, MAX_NAME - len(ending), MAX_NAME_BYTES - len(ending)) + ending


def clean_name(name: Any) -> str:
    """Letters and digits of any script, with what is written above and below them, all else a dash: safe in a path and
    a header; no longer than `MAX_NAME`."""
    kept = ""
    for letter in unicodedata.normalize("NFC", str(name)):
        belongs = letter.isalnum() and letter not in _UNSEEN_LETTERS
        # a vowel sign is part of the letter before it; alone it would change whatever stands before the name
        marks = unicodedata.category(letter) in ("Mn", "Mc") and kept[-1:] not in ("", "-")
        kept += letter if belongs or marks else "-"
    return _shorten("-".join(part for part in kept.split("-") if part), MAX_NAME, MAX_NAME_BYTES) or "model"


def _choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise BadRequest(f"{name} cannot be {_shown(value)}: use {_listed(allowed)}.", "bad_choice")


def _number(name: str, value: Any, bounds: tuple[float, float], unit: str = "") -> float:
    low, high = bounds
    number = value
    if isinstance(number, str):
        try:
            number = float(number)
        except ValueError:
            number = math.nan
    if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
        raise BadRequest(
            f"{name} cannot be {_shown(value)}: use a number from {low:,g} to {high:,g}{unit}.",
            "out_of_range",
        )
    return float(number)


def _integer(name: str, value: Any, bounds: tuple[int, int]) -> int:
    low, high = bounds
    number = value
    if isinstance(number, str):
        try:
            number = int(number)
        except ValueError:
            number = None
    if isinstance(number, float) and number.is_integer():  # JSON and spreadsheets write 7.0 for 7
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise BadRequest(f"{name} cannot be {_shown(value)}: use a whole number from {low} to {high}.", "out_of_range")
    return number


def _taps(value: Any) -> tuple[Tap, ...]:
    wanted = "taps must be a list of [x, y, 'include' or 'exclude'], x and y from 0 to 1"
    if value in (None, ""):
        return ()
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise BadRequest(f"{wanted}.", "out_of_range")
    if len(value) > MAX_TAPS:
        raise BadRequest(f"{wanted}; at most {MAX_TAPS} are taken.", "out_of_range")
    taps = []
    for item in value:
        if isinstance(item, Tap):
            item = (item.x, item.y, "include" if item.include else "exclude")
        if not isinstance(item, Sequence) or len(item) != 3 or item[2] not in ("include", "exclude"):
            raise BadRequest(f"{wanted}.", "out_of_range")
        x, y = (_number("a tap's x or y", number, (0.0, 1.0)) for number in item[:2])
        taps.append(Tap(x, y, item[2] == "include"))
    return tuple(taps)


def _shorten(name: str, characters: int, size: int) -> str:
    return name[:characters].encode()[:size].decode(errors="ignore").strip("-")


def _shown(value: Any) -> str:
    text = "empty" if value is None else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items[:-1]) + f" or {items[-1]}"
