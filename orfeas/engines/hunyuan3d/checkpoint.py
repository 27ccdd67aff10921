"""Open a file of weights without trusting it: nothing in it is run, and what is wrong with it is said.

Two kinds are read, told apart by content, not by name: torch's zip of a pickle (``torch.load`` with
``weights_only=True``, which builds tensors and calls nothing else) and safetensors. Both are mapped into memory, so
opening 7 GB takes no time and no memory of its own.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from orfeas.errors import BadWeights

PARTS = ("model", "vae", "conditioner")
_REMEDY = "Download it again."


@dataclass(frozen=True)
class Checkpoint:
    """Tensors on the CPU by part and published key. ``name`` is for messages."""

    name: str
    parts: dict[str, dict[str, Tensor]]

    def part(self, name: str) -> dict[str, Tensor]:
        """One of `PARTS`. Raises `BadWeights` if the file has none of it."""
        if not self.parts.get(name):
            found = ", ".join(sorted(part for part in self.parts if part in PARTS)) or "none"
            raise BadWeights(
                f"{self.name} has no part {name!r} (of the parts {', '.join(PARTS)} it has {found});"
                " the shape checkpoint of Hunyuan3D-2.1 is needed.",
                "wrong_keys",
            )
        return self.parts[name]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a torch zip or safetensors file. Raises `BadWeights` with one of these codes:

    ``missing_file``, ``lfs_pointer``, ``corrupt_checkpoint`` (damaged, cut short or something else altogether),
    ``unsafe_checkpoint`` (would run code) and ``unsafe_archive`` (a zip that torch did not write).
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise BadWeights(f"The weights {path} cannot be read: {error.strerror}.", "missing_file") from error
    if start.startswith(b"version https://git-lfs"):
        raise BadWeights(
            f"{path.name} is only a Git LFS pointer, not the weights themselves; run `git lfs pull` in its folder.",
            "lfs_pointer",
        )
    if start.startswith(b"PK\x03\x04"):
        state = _open_torch_zip(path)
    elif start.startswith(b"\x80"):
        raise BadWeights(
            f"{path.name} is a bare pickle, a kind of file that can run code when it is opened; it was not opened."
            " Use the published .ckpt or a .safetensors file.",
            "unsafe_checkpoint",
        )
    else:
        state = _open_safetensors(path)
    return Checkpoint(path.name, split_parts(path.name, state))


def split_parts(name: str, state: dict) -> dict[str, dict[str, Tensor]]:
    """``{part: {key: tensor}}``, or a flat ``{"part.key": tensor}``, by part. Raises `BadWeights` for anything else.

    Parts that nobody knows are kept, to be named by `weights.check_checkpoint`; a key without a dot is such a part, of
    one tensor without a name.
    """
    if not isinstance(state, dict) or not state:
        raise BadWeights(f"{name} holds no table of tensors. {_REMEDY}", "corrupt_checkpoint")
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        if isinstance(key, str) and isinstance(value, dict):
            parts.setdefault(key, {}).update(value)
        elif isinstance(key, str):
            part, _, rest = key.partition(".")
            parts.setdefault(part, {})[rest] = value
        else:
            raise BadWeights(f"{name} has a key that is no text. {_REMEDY}", "corrupt_checkpoint")
    for part, tensors in parts.items():
        for key, value in tensors.items():
            if not isinstance(key, str):
                raise BadWeights(f"{name} has a key in {part} that is no text. {_REMEDY}", "corrupt_checkpoint")
            if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
                raise BadWeights(f"{name} has something else than a tensor at {part}.{key}.", "corrupt_checkpoint")
    return parts


def _open_torch_zip(path: Path) -> dict:
    _refuse_foreign_zip(path)
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadWeights(
            f"{path.name} contains more than tensors and could run code; it was not opened. Use the published file.",
            "unsafe_checkpoint",
        ) from error
    except Exception as error:  # a hostile pickle can fail the reader in any way; whatever it is, the file is unusable
        raise BadWeights(f"{path.name} is damaged: {_first_line(error)}. {_REMEDY}", "corrupt_checkpoint") from error


def _refuse_foreign_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadWeights(
            f"{path.name} is damaged or cut short ({_first_line(error)}). {_REMEDY}", "corrupt_checkpoint"
        ) from error
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            raise BadWeights(
                f"{path.name} is an archive that would write outside its folder; it was not opened.", "unsafe_archive"
            )
        if entry.compress_type != zipfile.ZIP_STORED:
            raise BadWeights(
                f"{path.name} is a compressed archive, not a checkpoint: torch stores tensors as they are."
                " It was not opened.",
                "unsafe_archive",
            )
    if not any(PurePosixPath(entry.filename).name == "data.pkl" for entry in entries):
        raise BadWeights(f"{path.name} is a zip file, but not one that torch wrote. {_REMEDY}", "corrupt_checkpoint")


def _open_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 — a handle, not a dict
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise BadWeights(
            f"{path.name} is no whole safetensors file, nor one that torch wrote: {_first_line(error)}. {_REMEDY}",
            "corrupt_checkpoint",
        ) from error


def _first_line(error: Exception) -> str:
    line = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    return line if len(line) <= 160 else line[:160] + "…"
