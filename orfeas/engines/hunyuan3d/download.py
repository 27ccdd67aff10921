"""Where the weights are, and ``python -m orfeas download``, which fetches them: licence first, checked, converted once.

Looking for weights (`find_weights`) imports neither torch nor huggingface_hub, so that an installation without them
knows at once.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

from orfeas.engines.gpu import rule_out_gpu
from orfeas.errors import BadRequest, BadWeights, OrfeasError

if TYPE_CHECKING:
    from orfeas.engines.hunyuan3d.config import ModelConfig
    from orfeas.settings import Settings


@dataclass(frozen=True)
class Release:
    """One file of one pinned revision on the hub.

    sha256, size: as reported by third parties (this project has not had the file itself), in hex and bytes.
    converted_size: of the safetensors file made from it, which leaves out the unused encoder; in bytes.
    """

    repo: str
    revision: str
    filename: str
    sha256: str
    size: int
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
LICENSE_TERMS = (
    f"The weights of Hunyuan3D-2.1 are under the {LICENSE}. It does not apply in, and gives no right of use in, the"
    " European Union, the United Kingdom and South Korea; passing the weights on needs its notice file; services with"
    " more than 1 million users a month need a separate grant. Read it at"
    f" https://huggingface.co/{RELEASE.repo}/blob/{RELEASE.revision}/LICENSE"
)
CONVERTED = "model.safetensors"
# What a folder of weights may hold, best first.
KNOWN_FILES = (CONVERTED, "hunyuan3d-2.1.safetensors", RELEASE.filename, "model.fp16.ckpt", "model.fp16.safetensors")
ATTEMPTS = 5  # in one run; a break after which not a byte came is the last
CONFIG = "config.json"  # beside the weights, for a model of other sizes; the released sizes need none

Report = Callable[[str, float], None]  # what is done, and the fraction of it


@dataclass(frozen=True)
class Weights:
    """path: the file. config_path: its configuration, or None for the released sizes. found: where from, for people."""

    path: Path
    config_path: Path | None
    found: str

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
    return f"The weights of Hunyuan3D-2.1 are not here; `python -m orfeas download` fetches them ({_gb(RELEASE.size)})."


def check_weights(weights: Weights) -> None:
    """Open the file and compare its tensors' names and shapes with the model's. Raises `BadWeights`; imports torch."""
    from orfeas.engines.hunyuan3d.checkpoint import open_checkpoint
    from orfeas.engines.hunyuan3d.weights import check_checkpoint

    check_checkpoint(open_checkpoint(weights.path), weights.load_config())


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
        raise _unreadable(place, error) from error


def _unreadable(place: Path, error: OSError) -> BadWeights:
    return BadWeights(
        f"The place of Hunyuan3D's weights {place} cannot be read: {error.strerror or error}; let this user read it, or"
        " name another in ORFEAS_HUNYUAN3D_PATH.",
        "missing_file",
    )


# --- fetching ---------------------------------------------------------------------------------------------------------


def download(folder: Path, *, release: Release = RELEASE, config: ModelConfig | None = None, report: Report) -> Path:
    """Fetch, check and convert; returns the converted file. What is there already is not done again.

    Raises `BadWeights` for a file that is not the published one (if it was fetched here it is removed, so that the next
    try fetches it anew; a cached file is another program's and stays) and `OrfeasError` where the hub cannot be reached
    or the disk is too small. The caller has had the licence accepted.
    """
    from orfeas.engines.hunyuan3d.config import RELEASED
    from orfeas.engines.hunyuan3d.weights import convert

    config = config or RELEASED
    destination = folder / CONVERTED
    if destination.is_file():
        from orfeas.engines.hunyuan3d.checkpoint import open_checkpoint
        from orfeas.engines.hunyuan3d.weights import check_checkpoint

        check_checkpoint(open_checkpoint(destination), config)
        report(f"{destination} is there already and complete", 1.0)
        return destination
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OrfeasError(f"The folder {folder} cannot be made: {error.strerror}; choose another.", "disk") from error
    cached = _find_in_hub_cache(release)
    source = cached or fetch(release, folder, report)
    problem = verify(source, release, report)
    if problem and cached:
        raise BadWeights(
            f"{cached} is not the published file: {problem}. Another program put it there: remove it and run the"
            " command again, or give --sha256 if the publisher names another.",
            "wrong_hash",
        )
    if problem:
        source.unlink()
        raise BadWeights(
            f"{release.filename} is not the published file: {problem}. It was removed; run the command again, or give"
            " --sha256 if the publisher names another.",
            "wrong_hash",
        )
    report("Converting to safetensors", 0.0)
    convert(source, destination, config, lambda done, total: report("Converting to safetensors", done / total))
    if not cached:
        source.unlink()  # 7 GB that nothing needs any more; a copy in the hub's cache is another program's
    (folder / "NOTICE").write_text(
        f"{CONVERTED} was converted from {release.filename} of https://huggingface.co/{release.repo} at revision"
        f" {release.revision}.\n{LICENSE_TERMS}\n",
        encoding="utf-8",
    )
    return destination


def fetch(release: Release, folder: Path, report: Report) -> Path:
    """The published file in ``folder``. An interrupted download goes on where it stopped, in another run as well.

    huggingface_hub says where the file is and who asks; its own download begins anew in each run (seen in 2.4).
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        raise OrfeasError(
            f"{release.filename} is not in the cache {hub_cache()}, and HF_HUB_OFFLINE is set: go online and try again,"
            " or put the file in a folder and name it in ORFEAS_HUNYUAN3D_PATH.",
            "offline",
        )
    partial = folder / "download.partial"
    _refuse_full_disk(release, folder, partial)
    try:
        for attempt in range(ATTEMPTS):
            before = _size(partial)
            # Asked each time: the address is signed, and an hour into a slow download it is void.
            found = get_hf_file_metadata(hf_hub_url(release.repo, release.filename, revision=release.revision))
            try:
                _append(found.location, partial, release, report)
                break
            except (OSError, HTTPException):
                if attempt + 1 == ATTEMPTS or _size(partial) == before:
                    raise
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        raise OrfeasError(
            f"The hub refused {release.repo}/{release.filename} ({status}): check the network and HF_TOKEN, then run"
            " the command again.",
            "download",
        ) from error
    except Exception as error:  # the hub's client lets through whatever its HTTP library of the day raises
        why = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise OrfeasError(
            f"The download of {release.filename} stopped ({why}): run the command again; it goes on where it stopped.",
            "download",
        ) from error
    return partial


def _append(url: str, partial: Path, release: Release, report: Report) -> None:
    """Bring ``partial`` to the release's size, from the byte where it ends. Raises OSError where the line breaks."""
    message = f"Fetching {release.filename}"
    done = _size(partial)
    if done >= release.size:
        return
    request = Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with urlopen(request, timeout=60) as answer, partial.open("ab") as file:
        if done and answer.status != 206:  # a server that does not know ranges sends everything
            file.truncate(done := 0)
        report(message, done / release.size)
        while block := answer.read(1 << 20):
            file.write(block)
            done += len(block)
            report(message, min(1.0, done / release.size))
        if answer.length:  # the body was shorter than announced
            raise OSError(f"{answer.length:,} bytes were not sent")


def verify(path: Path, release: Release, report: Report) -> str:
    """What is wrong with the file's size or SHA-256, half a sentence; "" if both are the release's."""
    size = path.stat().st_size
    if size != release.size:
        return f"it has {size:,} bytes instead of {release.size:,}"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
            report("Checking SHA-256", file.tell() / size)
    if digest.hexdigest() != release.sha256:
        return f"its SHA-256 is {digest.hexdigest()} instead of {release.sha256}"
    return ""


def _find_in_hub_cache(release: Release) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(release.repo, release.filename, revision=release.revision)
    return Path(cached) if isinstance(cached, str) else None


def _refuse_full_disk(release: Release, folder: Path, partial: Path) -> None:
    needed = release.size + release.converted_size - _size(partial)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OrfeasError(
            f"{folder} has {_gb(free)} free, but {_gb(needed)} are needed: make room, or choose another folder with"
            " ORFEAS_HUNYUAN3D_PATH.",
            "disk_full",
        )


# --- the command ------------------------------------------------------------------------------------------------------


def add_download_parser(commands) -> argparse.ArgumentParser:
    """Add ``download`` to the command line's subparsers."""
    parser = commands.add_parser(
        "download",
        help="fetch the weights of Hunyuan3D-2.1",
        description=f"Fetch the weights of Hunyuan3D-2.1 ({_gb(RELEASE.size)}), check them and convert them once"
        f" ({_gb(RELEASE.converted_size)}; both at once need room). {LICENSE_TERMS}",
    )
    parser.add_argument(
        "--accept-license",
        action="store_true",
        help="say that you have read the licence and accept it (also: ORFEAS_ACCEPT_HUNYUAN3D_LICENSE=1)",
    )
    parser.add_argument("--sha256", metavar="HEX", help="the file's SHA-256, in place of the built-in one")
    parser.set_defaults(func=run_download)
    return parser


def run_download(arguments: argparse.Namespace) -> int:
    """``python -m orfeas download``. Returns 0; raises `OrfeasError`."""
    from orfeas.settings import load_settings

    settings = load_settings()
    release = RELEASE
    if arguments.sha256:
        digest = arguments.sha256.strip().lower()
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise BadRequest(f"--sha256 cannot be {arguments.sha256!r}: use 64 hexadecimal digits.", "bad_choice")
        release = replace(RELEASE, sha256=digest)
    ask_for_acceptance(arguments.accept_license or settings.accept_hunyuan3d_license)
    folder = Path(settings.hunyuan3d_path).expanduser() if settings.hunyuan3d_path else default_folder()
    if folder.is_file():
        raise BadRequest(f"ORFEAS_HUNYUAN3D_PATH is the file {folder}: name a folder to download to.", "bad_setting")
    path = download(folder, release=release, report=_print_progress)
    print(f"Ready: {path}")
    return 0


def ask_for_acceptance(accepted: bool) -> None:
    """Print the terms, the size, and whether they would be of use here.

    Returns only if the licence is accepted; raises `BadRequest`.
    """
    print(LICENSE_TERMS)
    if reason := rule_out_gpu():
        print(f"This machine could not use them ({reason}): download them where they shall run.")
    print(
        f"The download is {_gb(RELEASE.size)}; converted, it takes {_gb(RELEASE.converted_size)}, and for a moment both"
        " are there."
    )
    if accepted:
        print("The licence was accepted on the command line or in the settings.")
        return
    if sys.stdin is not None and sys.stdin.isatty():
        answer = input("Do you accept the licence, and are you outside these countries? Type yes to go on: ")
        if answer.strip().lower() == "yes":
            return
    raise BadRequest(
        "Nothing was downloaded, for the licence was not accepted: read it, then give --accept-license or set"
        " ORFEAS_ACCEPT_HUNYUAN3D_LICENSE=1.",
        "license",
    )


def _print_progress(message: str, fraction: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{message} {fraction:4.0%} ", end="\n" if fraction >= 1 else "", file=sys.stderr, flush=True)
    elif fraction in (0.0, 1.0):
        print(message + (": done" if fraction else ""), file=sys.stderr, flush=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
