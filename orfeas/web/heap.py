"""The memory that jobs free goes back to the system, instead of staying with the C library."""

from __future__ import annotations

import ctypes
import os
import sys

# glibc gives each new thread one of up to eight arenas a core, and none of them gives back what it once had: with fifty
# jobs waiting, a thread each, twenty of them left 290 MB behind, with two arenas 90 MB (draft, two cores).
ARENAS = 2
_M_ARENA_MAX = -8  # of malloc.h


def bound_arenas() -> None:
    """Let the threads that come share `ARENAS`, unless MALLOC_ARENA_MAX says otherwise; nothing where libc has none."""
    if "MALLOC_ARENA_MAX" not in os.environ and hasattr(_libc(), "mallopt"):
        _libc().mallopt(_M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Hand what is free to the system, as far as the C library can."""
    if hasattr(_libc(), "malloc_trim"):
        _libc().malloc_trim(0)


def _libc() -> object:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
