"""How well and how fast is the subject found, and what does a 40-megapixel file cost?

    python benchmarks/cutout.py [--side 768] [--ways auto ...] [--sheet cutouts.png] [--skip-memory] [--seconds 170]

Subjects are drawn (solids shaded by an inflated outline) and set on drawn grounds, so the true mask is known and
nothing is downloaded. The figures compare versions of this code with each other; they are kinder than real photographs.
"open": the ground is seen through a chair's back, a ring, a handle. "panel": the same, but what is enclosed belongs to
the subject and has nearly the ground's colour: nothing may be opened there.

Where the machine is so busy that ``--seconds`` are over, the rest is left out, and "cases" says how much was done. The
last line is the result as JSON.
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
GAPPED = ("slats", "ring", "handle")
GAPPED_GROUNDS = ("plain", "gradient", "studio shadow")
WAYS = ("auto", "network only", "saliency only")


def draw_outline(subject: str, side: int) -> np.ndarray:
    """(side, side) uint8 mask, 255 inside, of one of `SUBJECTS` or `GAPPED` in the middle of the frame."""
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
    elif subject == "slats":
        shape((0.26, 0.16), (0.74, 0.16), (0.74, 0.24), (0.26, 0.24))
        shape((0.26, 0.54), (0.74, 0.54), (0.78, 0.62), (0.22, 0.62))
        for x in (0.27, 0.36, 0.45, 0.54, 0.63, 0.705):
            shape((x, 0.2), (x + 0.025, 0.2), (x + 0.025, 0.56), (x, 0.56))
        for x in (0.25, 0.71):
            shape((x, 0.6), (x + 0.04, 0.6), (x + 0.04, 0.86), (x, 0.86))
    elif subject == "ring":
        disc(0.5, 0.5, 0.32, 0.3)
        disc(0.5, 0.5, 0.2, 0.18, 0)
    elif subject == "handle":
        disc(0.5, 0.38, 0.24, 0.24)
        disc(0.5, 0.38, 0.19, 0.19, 0)
        disc(0.5, 0.62, 0.28, 0.2)
    else:
        shape((0.34, 0.16), (0.4, 0.16), (0.4, 0.48), (0.66, 0.52), (0.66, 0.58), (0.34, 0.54))
        for x, y in ((0.34, 0.84), (0.4, 0.76), (0.62, 0.86), (0.56, 0.78)):
            shape((x, 0.52), (x + 0.035, 0.52), (x + 0.035, y), (x, y))
    return mask


def fill_gaps(mask: np.ndarray) -> np.ndarray:
    """``mask`` (uint8, 255 inside) with all that it encloses."""
    outlines, _ = cv2.findContours((mask >= 128).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.maximum(mask, cv2.drawContours(np.zeros_like(mask), outlines, -1, 255, -1))


def compose(
    subject: str, ground: str, side: int, rng: np.random.Generator, panel: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(side, side, 3) uint8 picture and (side, side) bool truth. panel: what the outline encloses is subject too, in
    nearly the ground's colour."""
    mask = draw_outline(subject, side)
    if subject in SUBJECTS and rng.random() < 0.3:  # seen from farther away, off the middle
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
    if panel:
        enclosed = (fill_gaps(mask) - mask)[..., None] / 255.0
        tint = rng.choice([-1, 1], 3) * rng.uniform(4, 10, 3) + 8 * (x - y)[..., None]
        back = back + enclosed * tint
        inside = fill_gaps(mask) >= 128
    cover = (mask / 255.0)[..., None]
    picture = cv2.GaussianBlur(thing * cover + back * (1 - cover), (0, 0), side / 1200)
    return np.clip(np.rint(picture + rng.normal(0, 2, picture.shape)), 0, 255).astype(np.uint8), inside


def list_cases() -> list[tuple[str, str, str, int]]:
    """(group, subject, ground, number), a little of every group first: a run that is cut short has seen all of them."""
    groups = [[(ground, subject, ground, number) for number, subject in enumerate(SUBJECTS)] for ground in GROUNDS]
    for kind in ("open", "panel"):
        groups += [[(f"{kind}, {ground}", subject, ground, 1) for subject in GAPPED] for ground in GAPPED_GROUNDS]
    longest = max(len(group) for group in groups)
    return [group[index] for index in range(longest) for group in groups if index < len(group)]


def measure(side: int, ways: list[str], sheet: str | None, stop: float) -> dict:
    """Mean IoU, methods and seconds by group of `list_cases`, until ``stop`` (`time.monotonic`); prints a table."""
    from orfeas.cutout import cut_out
    from orfeas.cutout.net import find_with_u2netp
    from orfeas.cutout.saliency import find_by_saliency
    from orfeas.errors import BadPicture

    finders = {
        "auto": None,
        "network only": [("u2netp", find_with_u2netp)],
        "saliency only": [("saliency", find_by_saliency)],
    }
    cases = list_cases()
    done: dict[str, list] = {group: [] for group, *_ in cases}
    for group, subject, ground, number in cases:
        if time.monotonic() > stop:
            break
        rng = np.random.default_rng([number, GROUNDS.index(ground)])
        rgb, truth = compose(subject, ground, side, rng, group.startswith("panel"))
        picture, result = _as_jpeg(rgb), {"subject": subject}
        for way in ways:
            start, cpu = time.perf_counter(), time.process_time()
            try:
                cutout = cut_out(picture, finders=finders[way])
                found, result["method"] = cutout.rgba[..., 3] >= 128, cutout.method
                result.setdefault("cell", np.hstack([picture.rgba[..., :3], _show(cutout.rgba)]))
            except BadPicture as error:
                found, result["method"] = np.zeros_like(truth), error.code
            taken = time.perf_counter() - start, time.process_time() - cpu
            result[way] = float((found & truth).sum() / (found | truth).sum()), *taken
        done[group].append(result)

    answer = {"cases": f"{sum(map(len, done.values()))} of {len(cases)}"}
    print(f"{'ground':22}" + "".join(f"{way:>24}" for way in ways) + "   worst, methods")
    for group, results in done.items():
        if not results:
            continue
        figures, shown = {}, ""
        for way in ways:
            scores, seconds, cpu = zip(*(result[way] for result in results), strict=True)
            figures[way] = round(float(np.mean(scores)), 4)
            figures.setdefault("worst", round(min(scores), 4))
            figures.setdefault("seconds", round(float(np.median(seconds)), 3))
            figures.setdefault("cpu_seconds", round(float(np.median(cpu)), 3))
            shown += f"{np.mean(scores):9.3f} {np.median(seconds):5.2f}s, CPU {np.median(cpu):4.2f}"
        worst = min(results, key=lambda result: result[ways[0]])
        methods = [result["method"] for result in results]
        counts = ", ".join(f"{methods.count(method)} {method}" for method in dict.fromkeys(methods))
        print(f"{group:22}{shown}   {worst['subject']} {worst[ways[0]][0]:.2f}, {counts}")
        answer[group] = figures
    if sheet:
        _write_sheet([[result["cell"] for result in results if "cell" in result] for results in done.values()], sheet)
    return answer


def _write_sheet(rows: list[list[np.ndarray]], path: str) -> None:
    blank, longest = np.zeros((160, 320, 3), np.uint8), max(len(row) for row in rows)
    small = [[cv2.resize(cell, (320, 160), interpolation=cv2.INTER_AREA) for cell in row] for row in rows]
    sheet = np.vstack([np.hstack(row + [blank] * (longest - len(row))) for row in small])
    cv2.imwrite(path, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def _as_jpeg(rgb: np.ndarray):
    """The picture as a camera would hand it over, as `orfeas.picture.Picture`."""
    from PIL import Image

    from orfeas.picture import load_picture

    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=88)
    return load_picture(file.getvalue())


def _show(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / 255
    return (rgba[..., :3] * alpha + np.array([255, 0, 255]) * (1 - alpha)).astype(np.uint8)


def measure_loading(kind: str, seconds: float) -> dict:
    """Extra peak memory (MB) and seconds of `load_picture` on 40 megapixels, in a process of its own.

    Raises `subprocess.TimeoutExpired` where that takes longer than ``seconds``.
    """
    stop = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large"
        for step in (["--write-large", kind], ["--load-large"]):  # the writer's peak is not the reader's
            command = [sys.executable, __file__, *step, "--path", str(path)]
            output = subprocess.run(
                command, check=True, capture_output=True, timeout=max(0, stop - time.monotonic())
            ).stdout
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
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["auto"], help="ways of finding that are compared")
    parser.add_argument("--seconds", type=float, default=170, help="after which nothing new is begun, about")
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
    begun = time.monotonic()
    stop = begun + options.seconds * (0.95 if options.skip_memory else 0.7)
    result = {
        "benchmark": "cutout",
        "side": options.side,
        "iou": measure(options.side, options.ways, options.sheet, stop),
    }
    if not options.skip_memory:
        result["loading"] = {}
        for kind in LARGE:
            left = begun + options.seconds - time.monotonic()
            try:
                result["loading"][kind] = measure_loading(kind, left)
            except subprocess.TimeoutExpired:
                result["loading"][kind] = "left out: no time"
            print(kind, result["loading"][kind])
    result["machine"] = f"{platform.machine()}, {cv2.getNumThreads()} threads, OpenCV {cv2.__version__}"
    return print(json.dumps(result))


if __name__ == "__main__":
    main()
