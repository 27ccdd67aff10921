"""Draw the README's picture from real results: ``python assets/showcase/draw_showcase.py`` (from the project's folder).

Each row is an example picture and the model that the sketch engine made of it, standard quality, seed 1, seen from
the front, from 45 and 90 degrees and from behind, drawn by `orfeas.render`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

EXAMPLES = ("bear.jpg", "duck.jpg", "mushroom.jpg", "robot.webp", "mug.jpg", "house.jpg")
ANGLES = (0, 45, 90, 180)
SIDE = 220
GROUND = (245, 245, 243)


def draw_row(picture: Path, folder: Path) -> Image.Image:
    import orfeas
    from orfeas.mesh.load import load_mesh
    from orfeas.render.still import render_still

    result = orfeas.generate(picture, folder=folder, seed=1)
    mesh = load_mesh(result.files["glb"])
    row = Image.new("RGB", ((len(ANGLES) + 1) * SIDE, SIDE), GROUND)
    photo = Image.open(picture).convert("RGBA")
    photo.thumbnail((SIDE - 16, SIDE - 16), Image.Resampling.LANCZOS)
    row.paste(photo, ((SIDE - photo.width) // 2, (SIDE - photo.height) // 2), photo)
    for column, angle in enumerate(ANGLES, start=1):
        still = render_still(mesh, azimuth_degrees=angle, elevation_degrees=12, size=SIDE, shadow=True)
        view = Image.fromarray(still)
        row.paste(view, (column * SIDE, 0), view)
    return row


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        rows = [draw_row(ROOT / "assets" / "examples" / name, Path(scratch)) for name in EXAMPLES]
    sheet = Image.new("RGB", (rows[0].width, len(rows) * SIDE), GROUND)
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * SIDE))
    sheet.save(Path(__file__).with_name("sketch.jpg"), quality=86)


if __name__ == "__main__":
    main()
