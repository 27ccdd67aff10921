"""What operators see: logs, bugs by their id, metrics, and how much memory a job took.

Metrics and GPU readings are in `orfeas.telemetry.metrics` and `orfeas.telemetry.gpu`: only a server imports those.
"""

from orfeas.telemetry.bugs import is_bug, report_bug
from orfeas.telemetry.logs import configure_logging, log
from orfeas.telemetry.memory import PeakMemory
from orfeas.telemetry.observer import Observer

__all__ = ["Observer", "PeakMemory", "configure_logging", "is_bug", "log", "report_bug"]
