"""ORFEAS: one photo in; a solid, coloured, printable 3D model out.

    import orfeas

    result = orfeas.generate("mug.jpg", size_mm=80, format="3mf")
    print(result.files["model"], result.report["verdict"])

Importing loads nothing heavy: no weights, no numpy, no network, no folder is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orfeas.errors import OrfeasError
from orfeas.request import GenerationRequest

if TYPE_CHECKING:
    from orfeas.progress import Progress
    from orfeas.result import Result
    from orfeas.settings import Settings
    from orfeas.studio import generate

__version__ = "0.1.0"

__all__ = ["GenerationRequest", "OrfeasError", "Progress", "Result", "Settings", "__version__", "generate"]

_LAZY = {
    "Progress": "orfeas.progress",
    "Result": "orfeas.result",
    "Settings": "orfeas.settings",
    "generate": "orfeas.studio",
}


def __getattr__(name: str):
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(set(globals()) | set(__all__))
