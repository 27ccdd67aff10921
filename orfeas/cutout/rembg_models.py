"""A better model than the built-in one, if the user has installed ``rembg`` and its weights are already on disk.

Nothing is downloaded here, ever: the file is looked for where rembg keeps it (``$U2NET_HOME``, ``$REMBG_HOME``,
``$XDG_DATA_HOME``, ``~/.rembg/models/<name>/``, and the older flat ``~/.u2net``), and rembg is handed that path.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from orfeas.cutout.finder import Found, Missed
from orfeas.telemetry import log

# best first; the least plausible file size tells a whole file from a download that broke off or a Git LFS pointer
MODELS = (("birefnet-general", 900_000_000), ("birefnet-general-lite", 200_000_000), ("isnet-general-use", 170_000_000))


class RembgModel:
    """One of rembg's models, from a file. ``open_session`` (name, path) gives an object with rembg's ``predict``."""

    def __init__(self, name: str, path: Path, open_session: Callable | None = None):
        self.name, self.path = name, path
        self._open = open_session or _open_session
        self._session = None
        self._lock = threading.Lock()

    def find(self, rgb: np.ndarray) -> Found | Missed:
        """The subject in (h, w, 3) uint8."""
        from PIL import Image

        try:
            with self._lock:
                if self._session is None:
                    self._session = self._open(self.name, self.path)
                mask = np.asarray(self._session.predict(Image.fromarray(rgb))[0].convert("L"), np.float32) / 255
        except MemoryError:
            raise
        except Exception as error:  # others' code and file: whatever is wrong with them, there are other ways
            log.warning("rembg_failed", model=self.name, error=str(error), kind=type(error).__name__)
            return Missed(f"The model {self.name} of the installed rembg package does not run here.")
        if (mask > 0.5).mean() < 0.001:
            return Missed(f"The model {self.name} found no subject.")
        scale = min(1.0, 1024 / max(mask.shape))  # the models look at 1024 pixels
        mask = cv2.resize(mask, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return Found(mask, f"The model {self.name} of the installed rembg package found the subject.", believed=True)


def find_rembg_model(
    installed: Callable[[str], object] = importlib.util.find_spec, environment: Mapping[str, str] = os.environ
) -> RembgModel | None:
    """The best of `MODELS` that can run here, or None. Imports nothing heavy and opens no file.

    installed: tells whether a package is there. environment: where rembg's folders are named.
    """
    if not (installed("rembg") and installed("onnxruntime")):
        return None
    for name, least_bytes in MODELS:
        for folder in _model_folders(name, environment):
            path = folder / f"{name}.onnx"
            try:
                if path.stat().st_size >= least_bytes:
                    return _keep_model(name, path)
            except OSError:
                continue
    return None


@functools.lru_cache(maxsize=len(MODELS))
def _keep_model(name: str, path: Path) -> RembgModel:
    return RembgModel(name, path)  # its session is loaded once


def _model_folders(name: str, environment: Mapping[str, str]) -> list[Path]:
    home, shared = environment.get("U2NET_HOME"), environment.get("XDG_DATA_HOME")
    root = home or environment.get("REMBG_HOME") or (os.path.join(shared, "rembg") if shared else "~/.rembg")
    old = home or os.path.join(shared or "~", ".u2net")
    return [Path(root).expanduser() / "models" / name, Path(old).expanduser()]


def _open_session(name: str, path: Path):
    """rembg's own session class for ``name``, bound to ``path``: its downloader is never reached."""
    import onnxruntime
    from rembg.sessions import sessions_class

    kind = next(session for session in sessions_class if session.name() == name)
    local = type("LocalSession", (kind,), {"download_models": classmethod(lambda *_args, **_options: str(path))})
    return local(name, onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"])
