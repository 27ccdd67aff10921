"""Normal noise with the same bits on every machine: those of `torch.randn` on a CPU with AVX2 or AVX-512.

`torch.randn` itself gives other bits where it has no such instructions, for its logarithm, sine and cosine are others
there: of the 262,144 numbers of a latent, in half precision, 185 differed (torch 2.13, with AVX2 and without). The
uniform numbers that it makes them of are the same. What it does to them with AVX2 is done here in numpy: the transform
of Box and Muller on blocks of 16, with the polynomials of the Cephes library and each multiply-add rounded once.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

BLOCK = 16  # of a radius each for the first 8 numbers and an angle each for the others
_TURN = np.float32(2 * math.pi)
_HALF = np.float32(0.5)
_SQRT_HALF = np.float32(math.sqrt(0.5))
_LOG = np.array(
    (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
     2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
    np.float32,
)  # fmt: skip
_LOG_2 = np.array((-2.12194440e-4, 0.693359375), np.float32)  # in two parts: their sum is it
_QUARTER_PI = np.array((-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8), np.float32)  # likewise
_SINE = np.array((-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1), np.float32)
_COSINE = np.array((2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2), np.float32)


def draw_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal float32 numbers on the CPU from a generator of the CPU."""
    size = math.prod(shape)
    if size < BLOCK:  # torch makes so few one by one, in double precision
        return torch.randn(shape, generator=generator)
    rest = size % BLOCK
    uniform = torch.rand(size + (BLOCK if rest else 0), generator=generator).numpy()
    normal = np.empty(size, np.float32)
    normal[: size - rest] = _transform(uniform[: size - rest])
    if rest:  # the last 16 are made anew
        normal[-BLOCK:] = _transform(uniform[size:])
    return torch.from_numpy(normal).view(shape)


def _transform(uniform: np.ndarray) -> np.ndarray:
    """(16 n,) in [0, 1) -> (16 n,) standard normal, both float32."""
    first, second = np.moveaxis(uniform.reshape(-1, 2, BLOCK // 2), 1, 0)
    radius = np.sqrt(np.float32(-2) * _log(np.float32(1) - first))
    sine, cosine = _sine_and_cosine(_TURN * second)
    return np.stack((radius * cosine, radius * sine), axis=1).ravel()


def _log(x: np.ndarray) -> np.ndarray:
    """Of normal float32 numbers above 0."""
    mantissa, exponent = np.frexp(x)  # the first in [0.5, 1)
    exponent = exponent.astype(np.float32)
    small = mantissa < _SQRT_HALF
    exponent = exponent - small.astype(np.float32)
    x = (mantissa - np.float32(1)) + np.where(small, mantissa, np.float32(0))
    square = x * x
    y = _polynomial(_LOG, x) * x
    y = _multiply_add(y, square, exponent * _LOG_2[0])
    y = _multiply_add(square, -_HALF, y)
    return _multiply_add(exponent, _LOG_2[1], x + y)


def _sine_and_cosine(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of float32 numbers from 0 to a turn."""
    octant = (x * np.float32(4 / math.pi)).astype(np.int32)
    octant = (octant + 1) & ~1  # the nearest multiple of a quarter turn, in eighths
    for part in _QUARTER_PI:
        x = _multiply_add(octant.astype(np.float32), part, x)
    square = x * x
    cosine = _multiply_add(_polynomial(_COSINE, square) * square, square, -(square * _HALF)) + np.float32(1)
    sine = _multiply_add(_polynomial(_SINE, square) * square, x, x)
    turned = (octant & 2) != 0  # by one or three quarters: each is the other
    sine, cosine = np.where(turned, cosine, sine), np.where(turned, sine, cosine)
    return (
        np.where((octant & 4) != 0, -sine, sine),
        np.where(((octant + 2) & 4) != 0, -cosine, cosine),
    )


def _polynomial(coefficients: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Highest power first."""
    y = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        y = _multiply_add(y, x, coefficient)
    return y


def _multiply_add(a: np.ndarray, b: np.ndarray | np.float32, c: np.ndarray | np.float32) -> np.ndarray:
    """a * b + c, rounded to float32 once: in float64 the product is exact, and the sum but for a case in 2 ** 28."""
    return (np.multiply(a, b, dtype=np.float64) + c).astype(np.float32)
