"""NVML as `orfeas.telemetry.gpu` asks it, for machines without an NVIDIA card; the names are those of `pynvml`."""

from __future__ import annotations

from types import SimpleNamespace

NVML_TEMPERATURE_GPU = 0


class NVMLError(Exception):
    pass


class Cards:
    """Stands in for the module. Two cards; the second is a slice that knows neither utilisation nor power."""

    NVMLError, NVML_TEMPERATURE_GPU = NVMLError, NVML_TEMPERATURE_GPU

    def __init__(self):
        self.driver_is_there = True
        self.opened = 0

    def nvmlInit(self):
        if not self.driver_is_there:
            raise NVMLError("Driver Not Loaded")
        self.opened += 1

    def nvmlDeviceGetCount(self):
        if not self.driver_is_there:
            raise NVMLError("GPU is lost")
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetMemoryInfo(self, card):
        return SimpleNamespace(used=(card + 1) * 10_000_000_000, total=80_000_000_000)

    def nvmlDeviceGetUtilizationRates(self, card):
        if card == 1:
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=37)

    def nvmlDeviceGetTemperature(self, card, sensor):
        assert sensor == NVML_TEMPERATURE_GPU
        return 61 + card

    def nvmlDeviceGetPowerUsage(self, card):
        if card == 1:
            raise NVMLError("Not Supported")
        return 312_500
