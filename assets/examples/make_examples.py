"""Make the example pictures: eleven little still lifes, modelled here in code and photographed with Cycles.

Run it in an environment of its own (Blender's module is not a dependency of the app):

    python3.11 -m venv studio && studio/bin/pip install "bpy==4.5.*" pillow
    studio/bin/python assets/examples/make_examples.py                 # all of them, about a minute each on two cores
    studio/bin/python assets/examples/make_examples.py mug duck        # only these
    studio/bin/python assets/examples/make_examples.py --size 320 --samples 16 --out /tmp/drafts

Opaque pictures are JPEG at quality 88, those on transparent ground are WebP; neither carries metadata.
"""

from __future__ import annotations

import argparse
import itertools
import math
import tempfile
from pathlib import Path

import blender_studio as s
import numpy as np
from PIL import Image


def mix(colors, masks, points):
    """(n, 3): the first colour, painted over by each next one where its mask (0 to 1) says so."""
    painted = np.tile(s.linear(colors[0]), (len(points), 1))
    for color, mask in zip(colors[1:], masks, strict=True):
        mask = np.asarray(mask, float)[:, None]
        painted = painted * (1 - mask) + np.array(s.linear(color)) * mask
    return painted


def step(value, edge: float, soft: float = 0.01):
    """0 below `edge`, 1 above it, a ramp of half-width `soft` between."""
    return np.clip((value - edge) / (2 * soft) + 0.5, 0, 1)


def mug():
    def glaze(p):
        radius, z = np.hypot(p[:, 0], p[:, 1]), p[:, 2]
        inside = step(-radius, -0.765, 0.004) * step(z, 0.1)
        bare = (1 - step(z, 0.2 + 0.02 * np.sin(5 * np.arctan2(p[:, 1], p[:, 0])), 0.006)) * (1 - inside)
        return mix(["#1f8a8c", "#f3ead8", "#c9a981"], [inside, bare], p)

    look = s.material("#1f8a8c", roughness=0.22, coat=0.6, painted=True, bump=0.05, bump_scale=9)
    wall = [(0, 0), (0.5, 0), (0.66, 0.01), (0.74, 0.06), (0.79, 0.18), (0.82, 0.5), (0.82, 1.0), (0.82, 1.66)]
    lip = [(0.815, 1.72), (0.79, 1.745), (0.765, 1.72)]
    bowl = [(0.755, 1.6), (0.75, 1.0), (0.74, 0.4), (0.66, 0.2), (0.45, 0.13), (0, 0.12)]
    s.lathe(wall + lip + bowl, look, count=320, paint=glaze)
    handle = [(0.8, 0, 1.42), (1.05, 0, 1.5), (1.32, 0, 1.3), (1.36, 0, 0.95), (1.2, 0, 0.6), (0.8, 0, 0.38)]
    plain = s.material("#1f8a8c", roughness=0.22, coat=0.6)
    s.sweep(handle, [0.12, 0.12, 0.11, 0.11, 0.12, 0.12], plain, flat=0.62, side=(0, 0, 1))
    s.backdrop("#f4f3f1", "#ffffff")
    s.soft_light(0.92, 0.42)
    s.aim(-22, 24, margin=1.42)


def chair():
    oak = s.wood("#8a5a2e", "#d3a46c", grain=(6, 6, 0.6))
    bar = s.wood("#8a5a2e", "#d3a46c", grain=(0.6, 6, 6))
    cloth = s.material("#d9912b", roughness=0.95, sheen=0.6, bump=0.5, bump_scale=140)
    s.box((0, 0, 1.0), (1.16, 1.12, 0.11), bar, bevel=0.05)
    cushion = s.box((0, -0.02, 1.12), (1.08, 1.04, 0.17), cloth, bevel=0.08)
    puff = cushion.modifiers.new("round", "SUBSURF")
    puff.levels = puff.render_levels = 2
    for x in (-1, 1):
        s.sweep([(0.46 * x, -0.44, 0.98), (0.56 * x, -0.54, 0.03)], [0.062, 0.036], oak)
        s.sweep([(0.44 * x, 0.44, 0.98), (0.53 * x, 0.62, 0.03)], [0.062, 0.036], oak)
        back = [(0.47 * x, 0.46, 1.0), (0.5 * x, 0.55, 1.5), (0.53 * x, 0.68, 2.02)]
        s.sweep(back, [0.052, 0.045, 0.04], oak)
        s.sweep([(0.5 * x, -0.485, 0.42), (0.485 * x, 0.535, 0.46)], [0.028], oak)
    for x in (-0.3, -0.15, 0, 0.15, 0.3):
        bend = 0.09 * (1 - (x / 0.55) ** 2)
        s.sweep([(0.85 * x, 0.47 + bend * 0.4, 1.0), (x, 0.66 + bend, 1.98)], [0.022, 0.02], oak, around=16)
    rail = [(x, 0.68 + 0.09 * (1 - (x / 0.55) ** 2), 2.02) for x in np.linspace(-0.62, 0.62, 7)]
    s.sweep(rail, [0.10, 0.13, 0.14, 0.13, 0.10], bar, flat=0.34, side=(0, 1, 0))
    s.sweep([(-0.47, 0.02, 0.44), (0.47, 0.02, 0.44)], [0.026], bar)
    s.backdrop("#c4d3dc", "#8fa9ba")
    s.soft_light(0.92, 0.30)
    s.aim(-34, 17)


def bear():
    def coat(p):
        belly = step(-np.linalg.norm((p - (0, -0.42, 0.62)) / (0.36, 0.4, 0.42), axis=1), -1, 0.02)
        muzzle = step(-np.linalg.norm((p - (0, -0.62, 1.5)) / (0.27, 0.26, 0.21), axis=1), -1, 0.02)
        ears = sum(
            step(-np.linalg.norm((p - (0.43 * k, -0.17, 2.08)) / (0.13, 0.1, 0.13), axis=1), -1, 0.03) for k in (-1, 1)
        )
        soles = sum(
            step(-np.linalg.norm((p - (0.47 * k, -0.98, 0.24)) / (0.17, 0.08, 0.19), axis=1), -1, 0.03) for k in (-1, 1)
        )
        return mix(["#a5652f", "#ecc999"], [np.clip(belly + muzzle + ears + soles, 0, 1)], p)

    felt = s.material("#a5652f", roughness=0.95, sheen=0.9, bump=0.8, bump_scale=90, painted=True)
    parts = [
        ((0, 0, 0.68), (0.6, 0.52, 0.66)),
        ((0, -0.08, 1.62), (0.56, 0.5, 0.5)),
        ((0, -0.5, 1.5), (0.24, 0.22, 0.18)),
    ]
    for k in (-1, 1):
        parts += [
            ((0.43 * k, -0.03, 2.06), (0.19, 0.12, 0.19)),
            ((0.66 * k, -0.22, 0.9), (0.19, 0.2, 0.42), (-25, -28 * k, 0)),
        ]
        parts += [
            ((0.44 * k, -0.5, 0.24), (0.22, 0.45, 0.22), (0, 0, 8 * k)),
            ((0.47 * k, -0.86, 0.28), (0.23, 0.14, 0.27)),
        ]
    s.blob(parts, felt, paint=coat)
    black = s.material("#120d0a", roughness=0.12, coat=1)
    for k in (-1, 1):
        s.ball((0.2 * k, -0.55, 1.72), 0.065, black)
    s.ball((0, -0.72, 1.58), (0.1, 0.06, 0.07), black)
    s.sweep([(-0.1, -0.7, 1.4), (0, -0.73, 1.37), (0.1, -0.7, 1.4)], [0.014], black, around=12)
    bow = s.material("#b8322f", roughness=0.6, sheen=0.4)
    for k in (-1, 1):
        s.ball((0.15 * k, -0.55, 1.17), (0.16, 0.06, 0.1), bow, turn=(0, 16 * k, 0))
    s.ball((0, -0.58, 1.17), (0.06, 0.06, 0.07), bow)
    s.table("#4d5a52")
    s.soft_light(0.95, 0.32)
    s.aim(24, 14, blur=4)


def mushroom():
    red = s.material("#c5201d", roughness=0.25, coat=0.5, subsurface=0.15, bump=0.05, bump_scale=8)
    cream = s.material("#efe2c4", roughness=0.6, subsurface=0.25, bump=0.25, bump_scale=18)
    dome = [(0, 1.98), (0.35, 1.95), (0.72, 1.76), (0.98, 1.42), (1.07, 1.16), (1.05, 1.06), (0.98, 1.04)]
    s.lathe(dome, red)
    gills = [(0.99, 1.05), (0.75, 1.14), (0.5, 1.2), (0.2, 1.22), (0, 1.22)]
    s.lathe(gills, cream, around=720, ribs=72, depth=0.06)
    stem = [(0, 0), (0.36, 0.01), (0.42, 0.14), (0.36, 0.4), (0.27, 0.7), (0.24, 1.0), (0.27, 1.25)]
    s.lathe(stem, cream)
    s.lathe(
        [(0.25, 0.93), (0.34, 0.86), (0.46, 0.74), (0.47, 0.72), (0.44, 0.73), (0.26, 0.86)], cream, ribs=18, depth=0.1
    )
    wart = s.material("#fbf4e4", roughness=0.75, bump=0.35, bump_scale=26)
    generator = np.random.default_rng(11)
    curve = s.smooth_path(dome, 200)
    for ring, count, size in ((0.0, 1, 0.15), (0.42, 5, 0.12), (0.72, 9, 0.115), (0.95, 12, 0.085)):
        for k in range(count):
            radius = ring + generator.uniform(-0.04, 0.04) * (ring > 0)
            angle = 2 * math.pi * (k + generator.uniform(-0.22, 0.22)) / count + ring * 4
            at = int(np.argmin(np.abs(curve[:170, 0] - radius)))
            slope = curve[min(at + 1, 199)] - curve[max(at - 1, 0)]
            tilt = math.degrees(math.atan2(-slope[1], slope[0]))
            big = size * generator.uniform(0.75, 1.2)
            place = (curve[at, 0] * math.cos(angle), curve[at, 0] * math.sin(angle), curve[at, 1])
            s.ball(place, (big, big, big * 0.42), wart, turn=(0, tilt, math.degrees(angle)))
    s.backdrop("#a9c08a", "#5f8560")
    s.soft_light(0.92, 0.30)
    s.aim(-15, 9)


def rocket():
    white = s.material("#eceae4", roughness=0.25, coat=0.5)
    red = s.material("#d2352b", roughness=0.25, coat=0.6)
    steel = s.material("#8d949b", roughness=0.28, metallic=1)
    dark = s.material("#23262b", roughness=0.4, metallic=0.8)

    def livery(p):
        nose = step(p[:, 2], 2.18, 0.006)
        band = step(p[:, 2], 0.74, 0.006) * (1 - step(p[:, 2], 0.86, 0.006))
        return mix(["#eceae4", "#d2352b", "#f0a32a"], [nose, band], p)

    hull = [
        (0.34, 0.36),
        (0.44, 0.6),
        (0.55, 1.0),
        (0.58, 1.4),
        (0.53, 1.85),
        (0.4, 2.25),
        (0.2, 2.62),
        (0.05, 2.82),
        (0, 2.84),
    ]
    s.lathe(hull, s.material("#eceae4", roughness=0.25, coat=0.5, painted=True), count=500, paint=livery)
    s.lathe([(0, 0.37), (0.35, 0.37), (0.37, 0.4), (0.34, 0.42)], steel)
    s.lathe([(0.16, 0.38), (0.2, 0.3), (0.3, 0.14), (0.33, 0.1), (0.3, 0.11), (0.14, 0.36), (0, 0.36)], dark)
    s.sweep([(0, 0, 2.8), (0, 0, 3.02)], [0.03, 0.012], steel)
    fin = s.smooth_path(
        [(0.4, 1.15), (0.72, 0.9), (0.98, 0.45), (1.04, 0.02), (0.95, 0.04), (0.72, 0.3), (0.36, 0.5)], 50
    )
    for turn in (20, 110, 200, 290):
        made = s.plate(fin, 0.1, red, bevel=0.035)
        made.rotation_euler = (0, 0, math.radians(turn))
    for z, size in ((1.72, 0.2), (1.18, 0.13)):
        y = -np.interp(z, [p[1] for p in hull], [p[0] for p in hull])
        ring = [(size * math.cos(a), y - 0.01, z + size * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 25)]
        s.sweep(ring, [0.045], steel, count=96, around=20)
        s.ball((0, y + 0.02, z), (size, 0.07, size), s.material("#2f7fb5", roughness=0.05, coat=1))
    for a in np.linspace(0, 2 * math.pi, 24, endpoint=False):
        s.ball((0.472 * math.cos(a), 0.472 * math.sin(a), 2.04), 0.017, white)
    s.soft_light(0.92, 0.36)
    s.aim(-25, 10, margin=1.12)


def shoe():
    """A low canvas sneaker: lofted upper over a sole, toe to the right."""
    length = np.linspace(0, 1, 520)
    along = -1.45 + 2.9 * (0.5 - 0.5 * np.cos(np.pi * length))
    knots = [-1.45, -1.4, -1.25, -0.9, -0.4, 0.2, 0.7, 1.05, 1.3, 1.42, 1.45]
    half = np.interp(along, knots, [0.02, 0.17, 0.30, 0.385, 0.375, 0.42, 0.50, 0.48, 0.33, 0.15, 0.02])
    half = np.convolve(np.pad(half, 14, mode="reflect", reflect_type="odd"), np.ones(29) / 29, "valid")
    shift = 0.07 * np.cos((along - 0.3) * 1.25)
    height = s.smooth_path(
        [
            (-1.46, 0.2),
            (-1.42, 0.78),
            (-1.3, 0.98),
            (-0.9, 0.93),
            (-0.45, 0.88),
            (0.1, 0.74),
            (0.6, 0.53),
            (1.05, 0.38),
            (1.35, 0.27),
            (1.46, 0.03),
        ],
        400,
    )
    rise = np.interp(along, height[:, 0], height[:, 1])
    columns = 320
    around = np.linspace(0, math.pi, columns)
    lean = np.interp(along, [-1.45, -0.3, 0.6, 1.45], [0.42, 0.5, 0.75, 0.9])[:, None]
    side = np.sign(np.cos(around)) * np.abs(np.cos(around)) ** lean
    up = np.sin(around) ** np.interp(along, [-1.45, -0.3, 0.6, 1.45], [0.55, 0.6, 0.75, 0.8])[:, None]
    inward = 1 - np.interp(along, [-1.45, -0.9, -0.3, 0.6], [0.22, 0.3, 0.3, 0.05])[:, None] * up
    y = shift[:, None] + half[:, None] * side * inward
    z = 0.24 + rise[:, None] * up
    points = np.stack([np.broadcast_to(along[:, None], y.shape), y, z], -1)
    mouth = ((along[:, None] + 0.66) / 0.6) ** 2 + ((around - math.pi / 2) / 0.62) ** 2 < 1
    angle = np.broadcast_to(np.degrees(around), y.shape).reshape(-1)

    def canvas(p):
        x, z = p[:, 0], p[:, 2]
        toe = step(x - 0.28 * (1 - np.abs(angle - 90) / 90) ** 2, 0.88, 0.006)
        throat = step(-np.abs(angle - 90), -15, 0.8) * step(x, -0.3) * (1 - step(x, 0.72))
        heel = step(-x, 1.17 + 0.1 * (z - 0.6), 0.006)
        wave = np.abs((x * 3.2 + 0.35) % 1 - 0.5) * 0.34 + 0.46
        zigzag = step(-np.abs(z - wave), -0.038, 0.006) * (1 - heel) * (1 - step(z, 0.66)) * (1 - step(x, 0.58))
        return mix(["#27548a", "#f1ece0", "#1c3b63", "#f1ece0", "#f2b632"], [toe, throat, heel, zigzag], p)

    faces = [f for f in s.grid_faces(len(along), columns, wrap=False) if not mouth.reshape(-1)[list(f)].any()]
    skin = s.material("#27548a", roughness=0.85, sheen=0.2, bump=0.25, bump_scale=120, painted=True)
    upper = s.add_mesh(points.reshape(-1, 3), faces, skin, paint=canvas)
    thick = upper.modifiers.new("thick", "SOLIDIFY")
    thick.thickness, thick.offset = 0.05, -1
    turn = np.linspace(0, 2 * math.pi, 41)
    collar = []
    for a in turn:  # along the edge of the mouth, on the upper's own surface
        i = int(np.argmin(np.abs(along - (-0.66 + 0.6 * math.cos(a)))))
        j = int(np.argmin(np.abs(around - (math.pi / 2 + 0.62 * math.sin(a)))))
        collar.append(points[i, j])
    s.sweep(collar, [0.055], s.material("#1c3b63", roughness=0.9, sheen=0.4), count=240, around=20)
    lining = s.material("#d9cdb8", roughness=1)
    s.ball((-0.62, 0.03, 0.33), (0.72, 0.28, 0.1), lining)
    tongue = s.material("#f1ece0", roughness=0.9, bump=0.25, bump_scale=120)
    s.sweep(
        [(0.1, 0.06, 0.9), (-0.1, 0.06, 1.03), (-0.26, 0.06, 1.2)], [0.2, 0.22, 0.2], tongue, flat=0.2, side=(1, 0, 1)
    )
    outline = np.concatenate(
        [np.stack([along, shift + half * 1.07], 1), np.stack([along[::-1], (shift - half * 1.07)[::-1]], 1)]
    ) * (1.02, 1)
    rubber = s.material("#f4f0e6", roughness=0.45)
    for low, high, scale, look in ((0.05, 0.34, 1.0, rubber), (0.0, 0.06, 1.0, s.material("#b5653a", roughness=0.6))):
        base = s.plate(outline * (1, -scale), high - low, look, bevel=0.03)
        base.rotation_euler, base.location = (math.pi / 2, 0, 0), (0, 0, (low + high) / 2)
    edge = np.vstack([outline, outline[:1]])
    s.sweep(
        np.insert(edge * 1.004, 2, 0.245, axis=1), [0.016], s.material("#b23a34", roughness=0.5), count=700, around=10
    )
    lace, metal = s.material("#fbf8f0", roughness=0.8), s.material("#c8c8c8", roughness=0.3, metallic=1)
    for x in np.linspace(0.02, 0.62, 5):
        i = int(np.argmin(np.abs(along - x)))
        span = [int(np.argmin(np.abs(around - math.radians(a)))) for a in (62, 72, 82, 90, 98, 108, 118)]
        path = [points[i, j] + (0.03 * (k - 3) / 3 * 0.6, 0, 0.035) for k, j in enumerate(span)]
        s.sweep(path, [0.034], lace, flat=0.55, side=(0, 0, 1), around=16)
        for j in (span[0], span[-1]):
            s.ball(points[i, j] + (0, 0, 0.012), (0.04, 0.04, 0.03), metal)
    knot = points[int(np.argmin(np.abs(along - 0.02))), columns // 2] + (0.03, 0, 0.07)
    for k in (-1, 1):
        side = np.array((1, k, 1))
        bow = [(0, 0, 0), (0.08, 0.16, 0.09), (0.12, 0.32, 0.0), (0.06, 0.2, -0.02), (0, 0, 0)]
        s.sweep(knot + np.array(bow) * side, [0.024], lace, around=14)
        end = [(0, 0, 0), (0.14, 0.12, 0.03), (0.2, 0.3, -0.14)]
        s.sweep(knot + np.array(end) * side, [0.022], lace, around=14)
    s.ball(knot, 0.05, lace)
    s.backdrop("#f0c7ad", "#dd9377")
    s.soft_light(0.87, 0.30)
    s.aim(32, 21, margin=1.22)


def teapot():
    def glaze(p):
        z = p[:, 2] + 0.012 * np.sin(9 * np.arctan2(p[:, 1], p[:, 0]))
        return mix(
            ["#22365c", "#e9dcc0", "#b98a4a"], [1 - step(z, 0.42, 0.01), step(-np.abs(z - 0.43), -0.02, 0.005)], p
        )

    blue = s.material("#22365c", roughness=0.2, coat=0.7, bump=0.06, bump_scale=14)
    painted = s.material("#22365c", roughness=0.2, coat=0.7, bump=0.06, bump_scale=14, painted=True)
    body = [
        (0, 0.02),
        (0.5, 0),
        (0.56, 0.03),
        (0.78, 0.2),
        (1.0, 0.52),
        (1.05, 0.82),
        (0.92, 1.14),
        (0.62, 1.36),
        (0.46, 1.4),
        (0.42, 1.43),
        (0.4, 1.38),
    ]
    s.lathe(body, painted, count=400, paint=glaze)
    s.lathe(
        [
            (0.44, 1.41),
            (0.43, 1.45),
            (0.34, 1.53),
            (0.16, 1.6),
            (0.07, 1.63),
            (0.055, 1.68),
            (0.11, 1.76),
            (0.09, 1.84),
            (0, 1.87),
        ],
        blue,
    )
    spout = [(0.8, 0, 0.62), (1.12, 0, 0.72), (1.36, 0, 0.98), (1.48, 0, 1.28), (1.66, 0, 1.46)]
    s.sweep(spout, [0.27, 0.2, 0.14, 0.11, 0.1], blue, around=48, open_end=True)
    s.ball((1.64, 0, 1.44), (0.09, 0.09, 0.04), s.material("#0b0d14", roughness=0.9), turn=(0, 49, 0))
    ring = [
        (1.665 + 0.1 * math.cos(a) * 0.66, 0.1 * math.sin(a), 1.465 - 0.1 * math.cos(a) * 0.75)
        for a in np.linspace(0, 2 * math.pi, 25)
    ]
    s.sweep(ring, [0.018], blue, around=16)
    cane = s.wood("#7a4d22", "#c08a4e", grain=(8, 8, 8))
    s.sweep(
        [
            (-0.55, 0, 1.36),
            (-0.66, 0, 1.75),
            (-0.42, 0, 2.12),
            (0, 0, 2.24),
            (0.42, 0, 2.12),
            (0.66, 0, 1.75),
            (0.55, 0, 1.36),
        ],
        [0.05, 0.06, 0.07, 0.06, 0.05],
        cane,
        flat=0.75,
        side=(0, 1, 0),
    )
    for k in (-1, 1):
        s.ball((0.57 * k, 0, 1.36), (0.09, 0.13, 0.09), blue)
    s.table("#5a4a3c")
    s.soft_light(1.0, 0.35)
    s.aim(-24, 18, margin=1.34, blur=4)


def duck():
    yellow = s.material("#f6c21c", roughness=0.28, coat=0.35, subsurface=0.2)
    parts = [
        ((0, 0.1, 0.55), (0.72, 0.92, 0.55)),
        ((0, -0.1, 0.4), (0.66, 0.8, 0.4)),
        ((0, 0.92, 0.86), (0.3, 0.34, 0.2), (38, 0, 0)),
    ]
    parts += [((0, -0.42, 1.0), (0.42, 0.42, 0.4)), ((0, -0.52, 1.42), (0.53, 0.52, 0.5))]
    s.blob(parts, yellow, soften=30)
    for k in (-1, 1):
        wing = [
            ((0.68 * k, 0.15, 0.66), (0.14, 0.46, 0.27), (14, 0, -6 * k)),
            ((0.72 * k, 0.56, 0.8), (0.09, 0.24, 0.13), (30, 0, -6 * k)),
        ]
        s.blob(wing, yellow, soften=16)
    beak = s.material("#ee6f1c", roughness=0.3, coat=0.4)
    s.blob(
        [
            ((0, -1.06, 1.36), (0.26, 0.24, 0.07), (-8, 0, 0)),
            ((0, -1.02, 1.29), (0.2, 0.19, 0.05), (6, 0, 0)),
            ((0, -0.95, 1.38), (0.18, 0.14, 0.13)),
        ],
        beak,
        voxel=0.015,
        soften=8,
    )
    black, white = s.material("#0c0c10", roughness=0.08, coat=1), s.material("#ffffff", roughness=0.2, glow=0.4)
    for k in (-1, 1):
        s.ball((0.245 * k, -0.955, 1.58), (0.085, 0.06, 0.105), black, turn=(0, 0, 24 * k))
        s.ball((0.235 * k - 0.02, -1.01, 1.62), 0.022, white)
    s.blob(
        [((0, -0.42, 1.93), (0.07, 0.1, 0.1)), ((0.0, -0.34, 2.0), (0.05, 0.1, 0.06), (35, 0, 0))],
        yellow,
        voxel=0.015,
        soften=6,
    )
    s.backdrop("#bfe3e6", "#63b4c4")
    s.soft_light(0.92, 0.30)
    s.aim(38, 15, margin=1.35)


def house():
    plaster = s.material("#f1e4cb", roughness=0.9, bump=0.25, bump_scale=30)
    brick, white = s.material("#a9523a", roughness=0.8, bump=0.3, bump_scale=24), s.material("#fbf8f1", roughness=0.5)
    glass, door = s.material("#7fb1c9", roughness=0.06, coat=1), s.material("#2f6b58", roughness=0.4, coat=0.3)
    gable = [(-0.8, 0.1), (0.8, 0.1), (0.8, 1.1), (0, 1.86), (-0.8, 1.1)]
    s.plate(gable, 2.0, plaster, bevel=0.015)
    s.box((0, 0, 0.08), (1.72, 2.12, 0.16), s.material("#8d8a84", roughness=0.9, bump=0.5, bump_scale=20), bevel=0.03)
    generator = np.random.default_rng(2)
    tiles = [s.material(c, roughness=0.6) for c in ("#b34a32", "#c0553a", "#a64530", "#bb5d42")]
    slope = math.atan2(0.76, 0.8)
    for k in (-1, 1):
        for row in range(9):
            for column in range(13):
                t = 1.27 - row * 0.148
                place = (k * t * math.cos(slope), -1.14 + 0.19 * (column + 0.5 * (row % 2)), 1.95 - t * math.sin(slope))
                s.box(
                    place,
                    (0.2, 0.183, 0.035),
                    tiles[generator.integers(4)],
                    bevel=0.012,
                    turn=(0, k * (math.degrees(slope) - 6), 0),
                )
    s.sweep([(0, -1.16, 1.93), (0, 1.22, 1.93)], [0.07], tiles[2])
    s.box((0.4, 0.5, 1.86), (0.28, 0.28, 0.62), brick, bevel=0.02)
    s.box((0.4, 0.5, 2.18), (0.36, 0.36, 0.08), white, bevel=0.02)

    def window(x, y, z, turn):
        a = math.radians(turn)
        for size, deep, look in (((0.44, 0.5), 0.06, white), ((0.34, 0.4), 0.09, glass)):
            s.box((x, y, z), (size[0], deep, size[1]), look, bevel=0.01, turn=(0, 0, turn))
        s.box((x, y, z), (0.035, 0.12, 0.4), white, bevel=0.005, turn=(0, 0, turn))
        s.box((x, y, z), (0.34, 0.12, 0.035), white, bevel=0.005, turn=(0, 0, turn))
        out = np.array([math.sin(a), -math.cos(a)]) * 0.06
        s.box((x + out[0], y + out[1], z - 0.29), (0.54, 0.16, 0.06), white, bevel=0.015, turn=(0, 0, turn))

    s.box((-0.22, -1.0, 0.5), (0.5, 0.07, 0.86), white, bevel=0.015)
    s.box((-0.22, -1.02, 0.49), (0.4, 0.07, 0.8), door, bevel=0.02)
    s.ball((-0.08, -1.07, 0.48), 0.03, s.material("#d8b24a", roughness=0.25, metallic=1))
    s.box((-0.22, -1.16, 0.1), (0.6, 0.3, 0.1), s.material("#9a968f", roughness=0.9), bevel=0.02)
    window(0.42, -1.0, 0.72, 0)
    for y in (-0.5, 0.45):
        window(0.8, y, 0.7, 90)
        window(-0.8, y, 0.7, -90)
    s.ball((0, -1.0, 1.38), (0.16, 0.04, 0.16), white)
    s.ball((0, -1.02, 1.38), (0.12, 0.04, 0.12), glass)
    lawn = s.material("#6f9a46", roughness=1, bump=1, bump_scale=40)
    s.lathe([(0, 0.03), (1.4, 0.03), (1.62, 0.02), (1.66, -0.03), (1.6, -0.08), (0, -0.08)], lawn)
    bush = s.material("#3f7a3a", roughness=1, bump=1, bump_scale=22)
    for x, y, size in ((0.98, -1.02, 0.24), (1.2, -0.7, 0.18), (-0.98, -1.0, 0.2), (1.05, 0.9, 0.26)):
        s.blob(
            [
                ((x + dx * size, y + dy * size, size * 0.75 + dz * size), size * 0.72)
                for dx, dy, dz in ((0.3, 0, 0), (-0.3, 0.1, 0.05), (0, -0.25, 0.12), (0, 0.2, 0.35))
            ],
            bush,
            soften=4,
        )
    s.backdrop("#f2f1ee", "#ffffff")
    s.soft_light(0.92, 0.36)
    s.aim(33, 22, margin=1.22)


def robot():
    teal = s.material("#3aa6a0", roughness=0.35, coat=0.4)
    cream = s.material("#f0e6d0", roughness=0.4, coat=0.2)
    steel = s.material("#9aa1a8", roughness=0.3, metallic=1)
    dark, screen = s.material("#2a2d34", roughness=0.5), s.material("#10181d", roughness=0.08, coat=1)
    orange, glow = s.material("#ef7a2c", roughness=0.35, coat=0.4), s.material("#9ff5ee", roughness=0.4, glow=3)
    s.box((0, 0, 1.02), (1.0, 0.74, 0.92), teal, bevel=0.16, taper=0.92)
    s.box((0, -0.36, 1.06), (0.62, 0.08, 0.5), cream, bevel=0.035)
    for x, look in ((-0.17, orange), (0, s.material("#f2c230", roughness=0.35)), (0.17, teal)):
        s.ball((x, -0.41, 1.2), (0.06, 0.035, 0.06), look)
    for z in (0.9, 0.98, 1.06):
        s.box((0, -0.405, z), (0.44, 0.02, 0.028), dark, bevel=0.008)
    s.lathe([(0, 1.45), (0.2, 1.45), (0.2, 1.5), (0.16, 1.53), (0.2, 1.56), (0.2, 1.62), (0, 1.62)], dark)
    s.box((0, 0, 1.98), (1.14, 0.84, 0.76), cream, bevel=0.2)
    s.box((0, -0.4, 1.98), (0.84, 0.08, 0.48), screen, bevel=0.035)
    for k in (-1, 1):
        s.ball((0.2 * k, -0.435, 2.02), (0.085, 0.025, 0.11), glow)
        s.lathe([(0, 0), (0.17, 0), (0.19, 0.03), (0.17, 0.1), (0.1, 0.13), (0, 0.13)], orange).matrix_world = s.placed(
            (0.55 * k, 0, 1.98), (0, 90 * k, 0)
        )
        s.ball((0.56 * k, 0, 1.3), 0.16, steel)
        arm = (
            [(0.6 * k, 0, 1.28), (0.8 * k, -0.04, 1.05), (0.82 * k, -0.22, 0.82)]
            if k < 0
            else [(0.6, 0, 1.3), (0.86, -0.06, 1.42), (0.96, -0.16, 1.7)]
        )
        s.sweep(arm, [0.075], dark, count=48)
        path = s.smooth_path(arm, 11)
        for one, ahead in itertools.pairwise(path[1:]):
            s.sweep([one, one + (ahead - one) * 0.18], [0.098], steel, count=4, around=24)
        hand = path[-1]
        s.ball(hand, 0.13, orange)
        out = (path[-1] - path[-2]) / np.linalg.norm(path[-1] - path[-2])
        across = np.cross(out, (0, 1, 0.2))
        across /= np.linalg.norm(across)
        for w in (-1, 1):
            s.sweep(
                [
                    hand + across * 0.08 * w,
                    hand + across * 0.17 * w + out * 0.12,
                    hand + across * 0.08 * w + out * 0.26,
                ],
                [0.06, 0.055, 0.04],
                orange,
            )
        s.sweep([(0.26 * k, 0, 0.6), (0.27 * k, 0, 0.25)], [0.12], dark)
        for z in (0.34, 0.44, 0.54):
            s.sweep([(0.265 * k, 0, z - 0.005), (0.265 * k, 0, z + 0.005)], [0.145], steel, count=4)
        s.box((0.28 * k, -0.09, 0.12), (0.42, 0.62, 0.24), orange, bevel=0.09, taper=0.8)
    s.sweep([(-0.07, -0.44, 1.86), (0, -0.445, 1.835), (0.07, -0.44, 1.86)], [0.016], glow, around=12)
    s.sweep([(0, 0, 2.34), (0, 0, 2.6)], [0.028], steel)
    s.ball((0, 0, 2.66), 0.09, orange)
    s.soft_light(0.92, 0.36)
    s.aim(-28, 12, margin=1.12)


def cactus():
    def skin(p):
        ridge = 0.5 + 0.5 * np.cos(14 * np.arctan2(p[:, 1], p[:, 0]))
        return mix(["#2f6a3c", "#6fa858"], [ridge**3], p)

    green = s.material("#3f8048", roughness=0.55, subsurface=0.1, painted=True)
    clay = s.material("#bd6a42", roughness=0.8, bump=0.15, bump_scale=40)
    pot = [
        (0, 0),
        (0.52, 0),
        (0.56, 0.03),
        (0.7, 0.62),
        (0.71, 0.64),
        (0.8, 0.65),
        (0.82, 0.68),
        (0.84, 0.86),
        (0.82, 0.89),
        (0.76, 0.88),
        (0.72, 0.78),
        (0, 0.76),
    ]
    s.lathe(pot, clay, count=500)
    s.lathe([(0, 0.82), (0.4, 0.81), (0.74, 0.78)], s.material("#4a3a2e", roughness=1, bump=1, bump_scale=30))
    stem = [(0.3, 0.76), (0.52, 0.95), (0.64, 1.3), (0.62, 1.7), (0.46, 2.04), (0.22, 2.2), (0, 2.18)]
    s.lathe(stem, green, count=200, around=560, ribs=14, depth=0.16, paint=skin)
    thorn = s.material("#f4ecd2", roughness=0.5)
    curve = s.smooth_path(stem, 200)
    for k in range(14):
        angle = 2 * math.pi * k / 14
        for at in range(14, 186, 15):
            (r, z), (dr, dz) = curve[at], curve[at + 1] - curve[at - 1]
            normal = np.array([dz * math.cos(angle), dz * math.sin(angle), -dr]) / math.hypot(dr, dz)
            root = np.array([r * math.cos(angle), r * math.sin(angle), z])
            aside = np.array([-math.sin(angle), math.cos(angle), 0.0])
            for way in (0.0, 0.7, -0.7):
                tip = root + 0.1 * (normal + way * aside + (0, 0, 0.25 * way))
                s.sweep([root, tip], [0.011, 0.002], thorn, count=3, around=8)
    pink, gold = s.material("#e2457f", roughness=0.5, subsurface=0.2), s.material("#f5c534", roughness=0.7)
    for ring, count, tilt, size in ((0.17, 11, 52, 0.2), (0.1, 8, 28, 0.18)):
        for k in range(count):
            angle = 2 * math.pi * (k + ring * 3) / count
            place = (ring * math.cos(angle), ring * math.sin(angle), 2.28 + 0.08 * (ring < 0.15))
            s.ball(place, (0.07, 0.022, size), pink, turn=(0, tilt, math.degrees(angle)))
    s.ball((0, 0, 2.3), (0.09, 0.09, 0.12), gold)
    s.backdrop("#f3d9c4", "#e7b79a")
    s.soft_light(0.92, 0.30)
    s.aim(-20, 16)


SUBJECTS = {
    make.__name__: make for make in (mug, chair, bear, mushroom, rocket, shoe, teapot, duck, house, robot, cactus)
}
TRANSPARENT = {"rocket", "robot"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(SUBJECTS)}; all if none is given")
    parser.add_argument("--size", type=int, default=768, help="edge in pixels")
    parser.add_argument("--samples", type=int, default=16, help="paths a pixel, before denoising")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    asked = parser.parse_args()
    unknown = set(asked.names) - set(SUBJECTS)
    if unknown:
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    for name in asked.names or SUBJECTS:
        s.start(asked.size)
        SUBJECTS[name]()
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "raw.png"
            s.photograph(raw, samples=asked.samples, transparent=name in TRANSPARENT)
            with Image.open(raw) as picture:
                if name in TRANSPARENT:
                    picture.save(asked.out / f"{name}.webp", quality=90, method=6)
                else:
                    picture.convert("RGB").save(asked.out / f"{name}.jpg", quality=88, optimize=True, exif=b"")
        print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main()
