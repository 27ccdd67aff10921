"""Which weights are on this machine, and whether they are what they should be.

Looking for them (`find_weights`) imports neither torch nor huggingface_hub, so that an installation without them knows
at once. `orfeas.engines.hunyuan3d.download` fetches them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orfeas.engines.hunyuan3d import integrity
from orfeas.errors import BadWeights
from orfeas.telemetry import log

if TYPE_CHECKING:
    from orfeas.engines.hunyuan3d.config import ModelConfig
    from orfeas.settings import Settings


@dataclass(frozen=True)
class Release:
    """One file of one pinned revision on the hub.

    sha256, size: as reported by third parties (this project has not had the file itself), in hex and bytes; size None:
    what the hub says.
    converted_size: of the safetensors file made from it, which leaves out the unused encoder; in bytes.
    """

    repo: str
    revision: str
    filename: str
    sha256: str
    size: int | None
    converted_size: int


RELEASE = Release(
    repo="tencent/Hunyuan3D-2.1",
    revision="0b94677654c57bb9a6b6845cd7b704ccf551d327",
    filename="hunyuan3d-dit-v2-1/model.fp16.ckpt",
    sha256="6b519fc7242f78e9b5f47ea4d55668fe3d944a2d27332f4ca68d29a6ff603f5e",
    size=7_366_389_768,
    converted_size=7_138_600_000,
)
LICENSE = "Tencent Hunyuan 3D 2.1 Community License"
CONVERTED = "model.safetensors"
# What a folder of weights may hold, best first.
KNOWN_FILES = (CONVERTED, "hunyuan3d-2.1.safetensors", RELEASE.filename, "model.fp16.ckpt", "model.fp16.safetensors")
CONFIG = "config.json"  # beside the weights, for a model of other sizes; the released sizes need none


@dataclass(frozen=True)
class Weights:
    """path: the file. config_path: its configuration, or None for the released sizes. found: where from, for people."""

    path: Path
    config_path: Path | None
    found: str

    @property
    def is_published(self) -> bool:
        """Whether it claims to be the release's file, by its name and for want of another configuration."""
        return self.config_path is None and self.path.name == Path(RELEASE.filename).name

    def find_sha256(self) -> str:
        """What its SHA-256 has to be; "" if nobody said."""
        return RELEASE.sha256 if self.is_published else integrity.read_sidecar(self.path)

    def load_config(self) -> ModelConfig:
        from orfeas.engines.hunyuan3d.config import RELEASED, load_config

        return load_config(self.config_path) if self.config_path else RELEASED


def find_weights(settings: Settings) -> Weights | None:
    """The weights that an engine would load, or None. Looks at names only; `check_weights` opens the file.

    With ``ORFEAS_HUNYUAN3D_PATH``, a file or a folder, only there; else what ``download`` made, else the hub's cache.
    Raises `BadWeights` for a place that this user may not look into.
    """
    if settings.hunyuan3d_path:
        return _weights_at(Path(settings.hunyuan3d_path).expanduser(), "ORFEAS_HUNYUAN3D_PATH")
    found = _weights_at(default_folder(), "python -m orfeas download")
    if found is None:
        folder = "models--" + RELEASE.repo.replace("/", "--")
        snapshot = hub_cache() / folder / "snapshots" / RELEASE.revision
        found = _weights_at(snapshot, "the Hugging Face cache")
    return found


def explain_missing(settings: Settings) -> str:
    """Why `find_weights` found nothing and what to do, in a sentence."""
    if settings.hunyuan3d_path:
        return (
            f"ORFEAS_HUNYUAN3D_PATH is {settings.hunyuan3d_path}, but no weights of Hunyuan3D-2.1 are there"
            f" ({CONVERTED} or {RELEASE.filename}); `python -m orfeas download` puts them there."
        )
    size = say_gb(RELEASE.size)
    return f"The weights of Hunyuan3D-2.1 are not here; `python -m orfeas download` fetches them ({size})."


def check_weights(weights: Weights, *, hashes: bool = False) -> None:
    """Open the file and compare its tensors' names and shapes with the model's, and the published file's size.

    hashes: also read it whole and compare its SHA-256, where that is known, once: `checked_files` remembers.
    Raises `BadWeights`; imports torch.
    """
    from orfeas.engines.hunyuan3d.checkpoint import open_checkpoint
    from orfeas.engines.hunyuan3d.weights import check_checkpoint

    check_checkpoint(open_checkpoint(weights.path), weights.load_config())
    try:
        problem = _find_change(weights, hashes)
    except OSError as error:
        raise explain_unreadable(weights.path, error) from error
    if problem:
        made = "published" if weights.is_published else "converted"
        raise BadWeights(
            f"{weights.path} is not what was {made}: {problem}. Remove it and run `python -m orfeas download`, which"
            " fetches and converts it anew, with --sha256 if the publisher names another file.",
            "wrong_hash",
        )


def _find_change(weights: Weights, hashes: bool) -> str:
    """How the file is not byte for byte what it should be, half a sentence; "" if that is not seen."""
    size = weights.path.stat().st_size
    if weights.is_published and size != RELEASE.size:
        return f"it has {size:,} bytes instead of {RELEASE.size:,}"
    sha256 = weights.find_sha256()
    if not hashes or not sha256 or checked_files().knows(weights.path, sha256):
        return ""
    log.info("hashing_weights", file=str(weights.path))  # 7 GB, once
    return integrity.explain_change(weights.path, sha256, checked_files())


def tell_integrity(weights: Weights) -> str:
    """Whether the file's SHA-256 was checked, half a sentence. Hashes nothing."""
    sha256 = weights.find_sha256()
    if not sha256:
        return "SHA-256 not checked, for it is not known what it should be"
    if checked_files().knows(weights.path, sha256):
        return "SHA-256 checked"
    return "SHA-256 not checked yet: that is done once, when Hunyuan3D starts"


def checked_files() -> integrity.Memory:
    """The files that were hashed: beside what ``download`` makes, wherever they lie themselves."""
    return integrity.Memory(default_folder() / "checked.json")


def default_folder() -> Path:
    """Where ``download`` puts the converted file: beside the hub's cache, so that ``HF_HOME`` moves both."""
    return hub_home() / "orfeas" / "hunyuan3d-2.1"


def hub_home() -> Path:
    """``$HF_HOME``, or ``~/.cache/huggingface``."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or Path(cache) / "huggingface").expanduser()


def hub_cache() -> Path:
    """``$HF_HUB_CACHE``, or ``hub`` in `hub_home`."""
    return Path(os.environ.get("HF_HUB_CACHE") or hub_home() / "hub").expanduser()


def _weights_at(place: Path, found: str) -> Weights | None:
    try:
        if place.is_file():
            path = place
        else:
            path = next((place / name for name in KNOWN_FILES if (place / name).is_file()), None)
            if path is None:
                return None
        config = path.parent / CONFIG
        return Weights(path, config if config.is_file() else None, found)
    except OSError as error:  # asking raises where a folder on the way is closed to this user
        raise explain_unreadable(place, error) from error


def explain_unreadable(place: Path, error: OSError) -> BadWeights:
    """What is said of a place that this user may not look into."""
    return BadWeights(
        f"The place of Hunyuan3D's weights {place} cannot be read: {error.strerror or error}; let this user read it, or"
        " name another in ORFEAS_HUNYUAN3D_PATH.",
        "missing_file",
    )


def say_gb(size: int) -> str:
    """A number of bytes in gigabytes, for people."""
    return f"{size / 1e9:.1f} GB"
