"""What the NVIDIA driver says of its cards, for Prometheus (NVML, NVIDIA's management library)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

LABELS = ("gpu",)


class GpuReadings(Collector):
    """Gauges of each card at the moment of the scrape; ``orfeas_gpu_up 0`` alone where there is none, no driver, or no
    nvidia-ml-py.

    A reading that a card does not have (the power of some, the utilisation of a MIG slice) is left out.
    nvml: the module `pynvml`, or one that answers like it.
    """

    def __init__(self, nvml: Any = None):
        self._nvml = nvml
        self._lock = threading.Lock()
        self._is_open = False

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            families = self._read()
        up = any(family.samples for family in families)
        yield GaugeMetricFamily("orfeas_gpu_up", "1 if the NVIDIA driver answers for at least one GPU", int(up))
        if up:
            yield from families

    def _read(self) -> list[GaugeMetricFamily]:
        if self._nvml is None:
            try:
                import pynvml
            except ImportError:
                return []
            self._nvml = pynvml
        nvml = self._nvml
        try:
            if not self._is_open:
                nvml.nvmlInit()
                self._is_open = True
            cards = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError:
            self._is_open = False  # a driver that comes (back) later is found by a later scrape
            return []
        families = []
        for name, text, read in _READINGS:
            family = GaugeMetricFamily(name, text, labels=LABELS)
            for index, card in enumerate(cards):
                try:
                    family.add_metric([str(index)], read(nvml, card))
                except nvml.NVMLError:
                    continue
            families.append(family)
        return families


_READINGS: tuple[tuple[str, str, Callable[[Any, Any], float]], ...] = (
    ("orfeas_gpu_memory_used_bytes", "memory in use", lambda nvml, card: nvml.nvmlDeviceGetMemoryInfo(card).used),
    ("orfeas_gpu_memory_total_bytes", "memory in all", lambda nvml, card: nvml.nvmlDeviceGetMemoryInfo(card).total),
    (
        "orfeas_gpu_utilization_ratio",
        "share of the last second or less in which a kernel ran, 0 to 1",
        lambda nvml, card: nvml.nvmlDeviceGetUtilizationRates(card).gpu / 100,
    ),
    (
        "orfeas_gpu_temperature_celsius",
        "temperature of the die",
        lambda nvml, card: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU),
    ),
    ("orfeas_gpu_power_watts", "power drawn", lambda nvml, card: nvml.nvmlDeviceGetPowerUsage(card) / 1000),
)
