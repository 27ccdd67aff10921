"""How well and how fast is the subject found, and what does a 40-megapixel file cost?

    python benchmarks/cutout.py [--side 768] [--sheet cutouts.png] [--skip-memory]

Subjects are drawn (solids shaded by an inflated outline) and set on drawn grounds, so the true mask is known and
nothing is downloaded. The figures compare versions of this code with each other; they are kinder than real photographs.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

GROUNDS = ("plain", "studio shadow", "white on white", "gradient", "wood", "blurred room")
LARGE = ("JPEG", "JPEG progressive", "PNG", "PNG with alpha", "WEBP")
SUBJECTS = ("mug", "shoe", "toy", "bottle", "star", "chair")


def draw_outline(subject: str, side: int) -> np.ndarray:
    """(side, side) uint8 mask, 255 inside, of one of `SUBJECTS` in the middle of the frame."""
    mask = np.zeros((side, side), np.uint8)

    def at(*points):
        return np.array([[round(x * side), round(y * side)] for x, y in points], np.int32)

    def disc(x, y, rx, ry, value=255):
        cv2.ellipse(mask, at((x, y))[0].tolist(), at((rx, ry))[0].tolist(), 0, 0, 360, value, -1, cv2.LINE_AA)

    def shape(*points):
        cv2.fillPoly(mask, [at(*points)], 255, cv2.LINE_AA)

    if subject == "mug":
        disc(0.66, 0.5, 0.13, 0.15)
        disc(0.66, 0.5, 0.08, 0.1, 0)
        shape((0.32, 0.28), (0.64, 0.28), (0.62, 0.72), (0.34, 0.72))
        disc(0.48, 0.28, 0.16, 0.05)
        disc(0.48, 0.72, 0.14, 0.04)
    elif subject == "shoe":
        shape((0.2, 0.66), (0.22, 0.4), (0.38, 0.38), (0.5, 0.5), (0.74, 0.56), (0.82, 0.66))
        disc(0.74, 0.61, 0.09, 0.06)
    elif subject == "toy":
        disc(0.5, 0.62, 0.17, 0.17)
        disc(0.5, 0.36, 0.13, 0.13)
        for x in (-1, 1):
            disc(0.5 + 0.11 * x, 0.25, 0.05, 0.05)
            disc(0.5 + 0.19 * x, 0.58, 0.06, 0.1)
            disc(0.5 + 0.1 * x, 0.78, 0.07, 0.06)
    elif subject == "bottle":
        shape(
            (0.42, 0.84),
            (0.42, 0.42),
            (0.47, 0.32),
            (0.47, 0.16),
            (0.53, 0.16),
            (0.53, 0.32),
            (0.58, 0.42),
            (0.58, 0.84),
        )
    elif subject == "star":
        turns = np.pi * (np.arange(10) / 5 - 0.5)
        radii = np.where(np.arange(10) % 2, 0.16, 0.36)
        shape(*zip(0.5 + radii * np.cos(turns), 0.5 + radii * np.sin(turns), strict=True))
    else:
        shape((0.34, 0.16), (0.4, 0.16), (0.4, 0.48), (0.66, 0.52), (0.66, 0.58), (0.34, 0.54))
        for x, y in ((0.34, 0.84), (0.4, 0.76), (0.62, 0.86), (0.56, 0.78)):
            shape((x, 0.52), (x + 0.035, 0.52), (x + 0.035, y), (x, y))
    return mask


def compose(subject: str, ground: str, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(side, side, 3) uint8 picture and (side, side) bool truth."""
    mask = draw_outline(subject, side)
    if rng.random() < 0.3:  # seen from farther away, off the middle
        scale, shift = rng.uniform(0.35, 0.6), rng.uniform(0.05, 0.4, 2) * side
        mask = cv2.warpAffine(mask, np.float32([[scale, 0, shift[0]], [0, scale, shift[1]]]), (side, side))
    inside = mask >= 128
    depth = np.sqrt(cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5))
    depth = cv2.GaussianBlur(depth * np.sqrt(side) / 4, (0, 0), side / 100)
    dy, dx = np.gradient(depth)
    light = np.clip((0.5 - 0.45 * dx - 0.7 * dy) / np.sqrt(1 + dx**2 + dy**2) + 0.25, 0.15, 1.1)
    colours = (
        rng.uniform(40, 235, (3, 3)) if ground != "white on white" else rng.uniform(228, 245, (3, 1)) + np.zeros(3)
    )
    patches = cv2.resize(rng.random((4, 4)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    thing = colours[np.digitize(patches, [0.4, 0.65])] * light[..., None]
    if ground == "white on white":
        thing = colours[0] * (0.72 + 0.28 * np.clip(light, 0, 1))[..., None]

    y, x = np.mgrid[:side, :side] / side
    if ground in ("plain", "studio shadow", "white on white"):
        back = np.zeros((side, side, 3)) + (rng.uniform(90, 250, 3) if ground == "plain" else 246)
    elif ground == "gradient":
        first, second = rng.uniform(30, 240, (2, 3))
        back = first + (second - first) * (0.3 * x + 0.7 * y)[..., None]
    elif ground == "wood":
        waves = np.sin(40 * (x + 0.15 * np.sin(5 * y + rng.uniform(0, 6)))) + 0.6 * np.sin(171 * x + 9 * np.sin(3 * y))
        back = np.array([150, 104, 62]) + 14 * waves[..., None] + 40 * (y[..., None] - 0.5)
        back[y < 0.3] = np.array([196, 190, 180])  # the wall behind the table
    else:
        noise = rng.uniform(20, 235, (9, 9, 3)).astype(np.float32)
        back = cv2.GaussianBlur(cv2.resize(noise, (side, side), interpolation=cv2.INTER_NEAREST), (0, 0), side / 40)
    if ground in ("studio shadow", "white on white", "wood"):
        low = np.float32([[1, 0.35, -0.1 * side], [0, 0.3, 0.7 * (np.flatnonzero(inside.any(1))[-1])]])
        shadow = cv2.GaussianBlur(cv2.warpAffine(mask, low, (side, side)), (0, 0), side / 50) / 255.0
        back = back * (1 - 0.4 * shadow[..., None])
    cover = (mask / 255.0)[..., None]
    picture = cv2.GaussianBlur(thing * cover + back * (1 - cover), (0, 0), side / 1200)
    return np.clip(np.rint(picture + rng.normal(0, 2, picture.shape)), 0, 255).astype(np.uint8), inside


def measure(side: int, sheet: str | None) -> dict:
    """Mean IoU, methods and seconds by ground; prints a table."""
    from orfeas.cutout import cut_out
    from orfeas.cutout.net import find_with_u2netp
    from orfeas.cutout.saliency import find_by_saliency
    from orfeas.errors import BadPicture
    from orfeas.picture import Picture

    ways = {
        "auto": None,
        "network only": [("u2netp", find_with_u2netp)],
        "saliency only": [("saliency", find_by_saliency)],
    }
    answer, rows = {}, []
    print(f"{'ground':16}" + "".join(f"{way:>16}" for way in ways) + "   methods of auto; worst")
    for ground in GROUNDS:
        scores, methods, seconds = {way: [] for way in ways}, [], {way: [] for way in ways}
        cells = []
        for number, subject in enumerate(SUBJECTS * 2):
            rng = np.random.default_rng([number, GROUNDS.index(ground)])
            rgb, truth = compose(subject, ground, side, rng)
            file = io.BytesIO()
            _save_jpeg(rgb, file)
            rgb = cv2.cvtColor(cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), 1), cv2.COLOR_BGR2RGB)
            rgba = np.dstack([rgb, np.full((side, side), 255, np.uint8)])
            picture = Picture(rgba, False, "0" * 64, "JPEG", (side, side))
            for way, finders in ways.items():
                start = time.perf_counter()
                try:
                    cutout = cut_out(picture, finders=finders)
                    found = cutout.rgba[..., 3] >= 128
                    if way == "auto":
                        methods.append(cutout.method)
                        cells.append(np.hstack([rgb, _show(cutout.rgba)]))
                except BadPicture as error:
                    found = np.zeros_like(truth)
                    if way == "auto":
                        methods.append(error.code)
                seconds[way].append(time.perf_counter() - start)
                scores[way].append((found & truth).sum() / (found | truth).sum())
        counts = ", ".join(f"{methods.count(method)} {method}" for method in dict.fromkeys(methods))
        worst = int(np.argmin(scores["auto"]))
        shown = "".join(f"{np.mean(scores[way]):9.3f} {np.median(seconds[way]):5.2f}s" for way in ways)
        print(f"{ground:16} {shown}   {counts}; {SUBJECTS[worst % 6]} {scores['auto'][worst]:.2f}")
        answer[ground] = {way: round(float(np.mean(scores[way])), 4) for way in ways}
        answer[ground]["seconds"] = round(float(np.median(seconds["auto"])), 3)
        rows.append(np.hstack([cv2.resize(cell, (320, 160), interpolation=cv2.INTER_AREA) for cell in cells[:6]]))
    if sheet:
        cv2.imwrite(
            sheet, cv2.cvtColor(np.vstack([row for row in rows if row.shape == rows[0].shape]), cv2.COLOR_RGB2BGR)
        )
    return answer


def _save_jpeg(rgb: np.ndarray, file: io.BytesIO) -> None:
    from PIL import Image

    Image.fromarray(rgb).save(file, "JPEG", quality=88)


def _show(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / 255
    return (rgba[..., :3] * alpha + np.array([255, 0, 255]) * (1 - alpha)).astype(np.uint8)


def measure_loading(kind: str) -> dict:
    """Extra peak memory (MB) and seconds of `load_picture` on 40 megapixels, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large"
        for step in (["--write-large", kind], ["--load-large"]):  # the writer's peak is not the reader's
            command = [sys.executable, __file__, *step, "--path", str(path)]
            output = subprocess.run(command, check=True, capture_output=True).stdout
    return json.loads(output)


def write_large(kind: str, path: Path) -> None:
    """A 40-megapixel file of ``kind``, one of `LARGE`."""
    from PIL import Image

    width, height = 7300, 5475
    rng = np.random.default_rng(0)
    small = cv2.resize(rng.integers(0, 255, (60, 80, 3), np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    image = Image.fromarray(small)
    if kind == "PNG with alpha":
        image.putalpha(Image.radial_gradient("L").resize((width, height)))
    image.save(path, kind.split()[0], progressive="progressive" in kind, quality=85, method=0)


def load_large(path: Path) -> dict:
    from orfeas.picture import load_picture

    def peak_kb():  # of this process alone: ru_maxrss starts with what the parent had
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

    before, start = peak_kb(), time.perf_counter()
    picture = load_picture(path)
    seconds = time.perf_counter() - start
    extra = (peak_kb() - before) / 1024
    return {
        "extra_mb": round(extra),
        "seconds": round(seconds, 2),
        "file_mb": round(path.stat().st_size / 2**20, 1),
        "kept": f"{picture.rgba.shape[1]}x{picture.rgba.shape[0]}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=768, help="pixels of the drawn pictures' side")
    parser.add_argument("--sheet", help="also write the cutouts found as one PNG")
    parser.add_argument("--skip-memory", action="store_true", help="leave out the 40-megapixel files")
    parser.add_argument("--write-large", choices=LARGE, help=argparse.SUPPRESS)
    parser.add_argument("--load-large", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write_large:
        return write_large(options.write_large, options.path)
    if options.load_large:
        return print(json.dumps(load_large(options.path)))
    result = {"benchmark": "cutout", "side": options.side, "iou": measure(options.side, options.sheet)}
    if not options.skip_memory:
        result["loading"] = {}
        for kind in LARGE:
            result["loading"][kind] = measure_loading(kind)
            print(kind, result["loading"][kind])
    result["machine"] = f"{platform.machine()}, {cv2.getNumThreads()} threads, OpenCV {cv2.__version__}"
    return print(json.dumps(result))


if __name__ == "__main__":
    main()
