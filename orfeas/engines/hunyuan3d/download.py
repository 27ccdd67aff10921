"""``python -m orfeas download``: the weights, licence first, checked, converted once."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

from orfeas.engines.gpu import rule_out_gpu
from orfeas.engines.hunyuan3d import integrity
from orfeas.engines.hunyuan3d.locate import (
    CONVERTED,
    LICENSE,
    RELEASE,
    Release,
    checked_files,
    default_folder,
    explain_unreadable,
    hub_cache,
    say_gb,
)
from orfeas.errors import BadRequest, BadWeights, OrfeasError

if TYPE_CHECKING:
    from orfeas.engines.hunyuan3d.config import ModelConfig


LICENSE_TERMS = (
    f"The weights of Hunyuan3D-2.1 are under the {LICENSE}. It does not apply in, and gives no right of use in, the"
    " European Union, the United Kingdom and South Korea; passing the weights on needs its notice file; services with"
    " more than 1 million users a month need a separate grant. Read it at"
    f" https://huggingface.co/{RELEASE.repo}/blob/{RELEASE.revision}/LICENSE"
)
REFUSED = ".refused"  # put behind the name of a file that is set aside; nothing is looked for under such a name
PAUSES = (1.0, 2.0, 4.0)  # seconds after a break, each longer while not a byte comes; then the run ends

Report = Callable[[str, float], None]  # what is done, and the fraction of it


def download(folder: Path, *, release: Release = RELEASE, config: ModelConfig | None = None, report: Report) -> Path:
    """Fetch, check and convert; returns the converted file. What is there already is not done again.

    A published file that lies in ``folder`` or in the hub's cache is taken instead of the network's, and stays. A
    converted file that is damaged is set aside and made anew, and so is what was fetched and is not the published file.
    Raises `BadWeights` for a file that is not the published one, and `OrfeasError` where the hub cannot be reached,
    the disk is too small or refuses, or another process is downloading to the same folder. The caller has had the
    licence accepted.
    """
    from orfeas.engines.hunyuan3d.config import RELEASED

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OrfeasError(f"The folder {folder} cannot be made: {error.strerror}; choose another.", "disk") from error
    try:
        with _alone_in(folder):
            return _download(folder, release, config or RELEASED, report)
    except OSError as error:
        raise OrfeasError(
            f"{error.filename or folder} cannot be read or written ({error.strerror or error}): make room, let this"
            " user write there, or choose another folder with ORFEAS_HUNYUAN3D_PATH; then run the command again.",
            "disk",
        ) from error


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Raises `OrfeasError` where another process downloads: both would append to one file."""
    lock = FileLock(folder / "download.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise OrfeasError(
            f"Another download to {folder} is running: wait until it is done, or stop it and run the command again.",
            "busy",
        ) from error
    try:
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()


def _download(folder: Path, release: Release, config: ModelConfig, report: Report) -> Path:
    from orfeas.engines.hunyuan3d.weights import convert

    destination, partial = folder / CONVERTED, folder / "download.partial"
    if destination.is_file() and _is_usable(destination, config, report):
        partial.unlink(missing_ok=True)  # of a run that was stopped between converting and cleaning up
        report(f"{destination} is there already and complete", 1.0)
        return destination
    found = _find_in_folder(release, folder) or _find_in_hub_cache(release)
    refused = folder / (Path(release.filename).name + REFUSED)
    if found is None and refused.is_file() and not verify(refused, release, report):
        os.replace(refused, partial)  # of an earlier run, and what --sha256 now says it is
    source = found or fetch(release, folder, report)
    problem = verify(source, release, report)
    if problem and found:
        raise BadWeights(
            f"{found} is not the published file: {problem}. Another program put it there: remove it and run the"
            " command again, or give --sha256 if the publisher names another.",
            "wrong_hash",
        )
    if problem:
        os.replace(source, refused)
        raise BadWeights(
            f"{release.filename} is not the published file: {problem}. It was renamed to {refused}: run the command"
            " again to fetch it anew, or with --sha256 if the publisher names another, which takes it from there.",
            "wrong_hash",
        )
    (folder / "NOTICE").write_text(  # before the weights, so that these are never without it
        f"{CONVERTED} was converted from {release.filename} of https://huggingface.co/{release.repo} at revision"
        f" {release.revision}.\n{LICENSE_TERMS}\n",
        encoding="utf-8",
    )
    report("Converting to safetensors", 0.0)
    integrity.remove_sidecar(destination)
    sha256 = convert(source, destination, config, lambda done, total: report("Converting to safetensors", done / total))
    integrity.write_sidecar(destination, sha256)
    checked_files().add(destination, sha256)
    if not found:
        source.unlink()  # 7 GB that nothing needs any more; what was found is another program's
    return destination


def _is_usable(destination: Path, config: ModelConfig, report: Report) -> bool:
    """Whether the converted file fits and is what was written; else that is said and it is set aside.

    Left there, it would be refused for ever.
    """
    from orfeas.engines.hunyuan3d.checkpoint import open_checkpoint
    from orfeas.engines.hunyuan3d.weights import check_checkpoint

    try:
        check_checkpoint(open_checkpoint(destination), config)
        sha256 = integrity.read_sidecar(destination)
        if sha256 and (problem := integrity.explain_change(destination, sha256, checked_files())):
            raise BadWeights(f"{destination.name} is not what was converted: {problem}.", "wrong_hash")
        return True
    except BadWeights as error:
        if error.code == "missing_file":  # not damaged: closed to this user
            raise
        aside = destination.with_name(destination.name + REFUSED)
        os.replace(destination, aside)
        report(f"{error} Setting it aside as {aside.name}", 1.0)
        return False


def fetch(release: Release, folder: Path, report: Report) -> Path:
    """The published file in ``folder``. An interrupted download goes on where it stopped, in another run as well.

    After a break it goes on by itself, until there were as many in a row without a byte as there are `PAUSES`.
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
    pauses = iter(PAUSES)
    while True:
        before = _size(partial)
        try:
            # Asked each time: the address is signed, and an hour into a slow download it is void.
            found = get_hf_file_metadata(hf_hub_url(release.repo, release.filename, revision=release.revision))
            size = _expect_size(release, found.size)
            _refuse_full_disk(release, size, folder, partial)
            _append(found.location, partial, size, f"Fetching {release.filename}", report)
            return partial
        except OrfeasError:
            raise
        except Exception as error:  # the hub's client lets through whatever its HTTP library of the day raises
            if _size(partial) > before:
                pauses = iter(PAUSES)
            pause = None if isinstance(error, HfHubHTTPError) and _is_refusal(error) else next(pauses, None)
            if pause is None:
                raise _explain_break(release, error) from error
        time.sleep(pause)


def _expect_size(release: Release, told: int | None) -> int:
    """The bytes to come: the release's, else what the hub says (0: unknown). Raises `BadWeights` if they differ."""
    if release.size is None:
        return told or 0
    if told is not None and told != release.size:
        raise BadWeights(
            f"{release.filename} is not the published file: the hub says that it has {told:,} bytes instead of"
            f" {release.size:,}. Nothing was fetched; give --sha256 if the publisher names another file.",
            "wrong_hash",
        )
    return release.size


def _is_refusal(error: Exception) -> bool:
    """Whether the hub would say the same again: not that it has too much to do, or a fault."""
    answer = getattr(error, "response", None)
    return answer is not None and 400 <= answer.status_code < 500 and answer.status_code not in (408, 429)


def _explain_break(release: Release, error: Exception) -> OrfeasError:
    answer = getattr(error, "response", None)
    if answer is not None:
        return OrfeasError(
            f"The hub refused {release.repo}/{release.filename} ({answer.status_code}): check the network and HF_TOKEN,"
            " then run the command again.",
            "download",
        )
    why = (str(error) or type(error).__name__).splitlines()[0][:120]
    return OrfeasError(
        f"The download of {release.filename} stopped ({why}): run the command again; it goes on where it stopped.",
        "download",
    )


def _append(url: str, partial: Path, size: int, message: str, report: Report) -> None:
    """Bring ``partial`` to ``size`` bytes (0: to the answer's end), from the byte where it ends.

    Raises `OSError` where the line breaks and `OrfeasError` where the disk refuses.
    """
    done = _size(partial)
    if size and done >= size:
        return
    request = Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with urlopen(request, timeout=60) as answer, _Appended(partial) as file:
        if done and answer.status != 206:  # a server that does not know ranges sends everything
            file.clear()
            done = 0
        report(message, done / size if size else 0.0)
        while block := answer.read(1 << 20):
            file.write(block)
            done += len(block)
            report(message, min(1.0, done / size) if size else 0.0)
        if answer.length or done < size:  # the body was shorter than announced, or than the file
            raise OSError(f"{answer.length or size - done:,} bytes were not sent")


class _Appended:
    """A file written at its end. What the disk refuses is an `OrfeasError`, not to be taken for the line's fault."""

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> _Appended:
        with self._explained():
            self._file = self._path.open("ab")
        return self

    def __exit__(self, *_) -> None:
        with self._explained():
            self._file.close()

    def clear(self) -> None:
        with self._explained():
            self._file.truncate(0)

    def write(self, block: bytes) -> None:
        with self._explained():
            self._file.write(block)
            self._file.flush()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OrfeasError(
                f"{self._path} cannot be written ({error.strerror or error}): make room, or choose another folder with"
                " ORFEAS_HUNYUAN3D_PATH, then run the command again.",
                "disk",
            ) from error


def verify(path: Path, release: Release, report: Report) -> str:
    """What is wrong with the file's size or SHA-256, half a sentence; "" if both are the release's."""
    size = path.stat().st_size
    if release.size is not None and size != release.size:
        return f"it has {size:,} bytes instead of {release.size:,}"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
            report("Checking SHA-256", file.tell() / size)
    if digest.hexdigest() != release.sha256:
        return f"its SHA-256 is {digest.hexdigest()} instead of {release.sha256}"
    return ""


def _find_in_folder(release: Release, folder: Path) -> Path | None:
    """The published file, put there by hand."""
    names = (release.filename, Path(release.filename).name)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _find_in_hub_cache(release: Release) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(release.repo, release.filename, revision=release.revision)
    return Path(cached) if isinstance(cached, str) else None


def _refuse_full_disk(release: Release, size: int, folder: Path, partial: Path) -> None:
    needed = size + release.converted_size - _size(partial)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OrfeasError(
            f"{folder} has {say_gb(free)} free, but {say_gb(needed)} are needed: make room, or choose another folder"
            " with ORFEAS_HUNYUAN3D_PATH.",
            "disk_full",
        )


# --- the command ------------------------------------------------------------------------------------------------------


def add_download_parser(commands) -> argparse.ArgumentParser:
    """Add ``download`` to the command line's subparsers."""
    parser = commands.add_parser(
        "download",
        help="fetch the weights of Hunyuan3D-2.1",
        description=f"Fetch the weights of Hunyuan3D-2.1 ({say_gb(RELEASE.size)}), check them and convert them once"
        f" ({say_gb(RELEASE.converted_size)}; both at once need room). {LICENSE_TERMS}",
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
        release = replace(RELEASE, sha256=digest, size=None)
    ask_for_acceptance(arguments.accept_license or settings.accept_hunyuan3d_license)
    folder = Path(settings.hunyuan3d_path).expanduser() if settings.hunyuan3d_path else default_folder()
    if _is_file(folder):
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
        f"The download is {say_gb(RELEASE.size)}; converted, it takes {say_gb(RELEASE.converted_size)}, and for a"
        " moment both are there."
    )
    if accepted:
        print("The licence was accepted on the command line or in the settings.")
        return
    if sys.stdin is not None and sys.stdin.isatty():
        try:
            answer = input("Do you accept the licence, and are you outside these countries? Type yes to go on: ")
        except EOFError:  # Ctrl+D
            answer = ""
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


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise explain_unreadable(path, error) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
