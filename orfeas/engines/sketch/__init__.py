"""The built-in CPU engine: no downloads, seconds, honest about being a sketch."""

from orfeas.engines.sketch.engine import SketchEngine

__all__ = ["SketchEngine"]
