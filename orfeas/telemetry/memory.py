"""How much memory a job took."""

from __future__ import annotations

import sys
from pathlib import Path


class PeakMemory:
    """Peak resident memory of this process between `start` and `read_mb`.

    On Linux the kernel's high-water mark is reset at `start` (``/proc/self/clear_refs``, proc(5)); where that is not
    possible the peak since the process began is read instead, and ``since_start`` is False. 0 where the system tells
    neither, as Windows.
    """

    def __init__(self):
        self.since_start = False

    def start(self) -> PeakMemory:
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self.since_start = True
        except OSError:
            self.since_start = False
        return self

    def read_mb(self) -> float:
        try:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return round(int(line.split()[1]) / 1024, 1)
        except OSError:
            pass
        try:
            import resource
        except ImportError:
            return 0.0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux, bytes on macOS
        return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
