"""Draw the README's pictures from real results: ``python assets/showcase/draw_showcase.py``, from the project's folder.

Each row is an example picture and the models that the sketch engine made of it, standard quality, seed 1, drawn by
`orfeas.render`. sketch.jpg: the default shape from the front, from 45 and 90 degrees and from behind. shapes.jpg: all
examples, first inflated, then as the network sees them, from three sides each.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PICTURES = ROOT / "assets" / "examples"
EXAMPLES = ("bear.jpg", "duck.jpg", "mushroom.jpg", "robot.webp", "mug.jpg", "house.jpg")
ANGLES = (0, 45, 90, 180)
COMPARED = ("inflation", "learned")
COMPARED_ANGLES = (30, 90, 210)
GAP = 24  # pixels between the shapes that are compared
SIDE = 220
REDUCED = 0.6  # of the sheet that compares
GROUND = (245, 245, 243)


def draw_photo(picture: Path, side: int) -> Image.Image:
    tile = Image.new("RGB", (side, side), GROUND)
    photo = Image.open(picture).convert("RGBA")
    photo.thumbnail((side - 16, side - 16), Image.Resampling.LANCZOS)
    tile.paste(photo, ((side - photo.width) // 2, (side - photo.height) // 2), photo)
    return tile


def draw_model(picture: Path, angles: tuple[int, ...], side: int, **settings: str) -> Image.Image:
    """The model of a picture from some sides, beside one another. settings: see `orfeas.settings`."""
    from orfeas.mesh.load import load_mesh
    from orfeas.render.still import render_still
    from orfeas.request import GenerationRequest
    from orfeas.settings import load_settings
    from orfeas.studio import build_studio

    with tempfile.TemporaryDirectory() as folder:
        studio = build_studio(load_settings(data_dir=Path(folder), engine="sketch", **settings))
        try:
            *_, result = studio.run(GenerationRequest.from_options(picture, {"seed": 1}))
            mesh = load_mesh(result.files["glb"])
        finally:
            studio.close()
    views = Image.new("RGB", (len(angles) * side, side), GROUND)
    for column, angle in enumerate(angles):
        still = render_still(mesh, azimuth_degrees=angle, elevation_degrees=12, size=side, shadow=True)
        view = Image.fromarray(still)
        views.paste(view, (column * side, 0), view)
    return views


def beside(tiles: list[Image.Image], gap: int = 0) -> Image.Image:
    row = Image.new("RGB", (sum(tile.width for tile in tiles) + gap * (len(tiles) - 1), tiles[0].height), GROUND)
    left = 0
    for tile in tiles:
        row.paste(tile, (left, 0))
        left += tile.width + gap
    return row


def below(rows: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), GROUND)
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * row.height))
    return sheet


def compare(picture: Path) -> Image.Image:
    models = [draw_model(picture, COMPARED_ANGLES, SIDE, sketch_shape=shape) for shape in COMPARED]
    row = beside([draw_photo(picture, SIDE), *models], GAP)
    return row.resize((round(row.width * REDUCED), round(row.height * REDUCED)), Image.Resampling.LANCZOS)


def main() -> None:
    here = Path(__file__).parent
    shown = [PICTURES / name for name in EXAMPLES]
    rows = [beside([draw_photo(picture, SIDE), draw_model(picture, ANGLES, SIDE)]) for picture in shown]
    below(rows).save(here / "sketch.jpg", quality=86)
    pictures = sorted(path for path in PICTURES.iterdir() if path.suffix in (".jpg", ".webp"))
    below([compare(picture) for picture in pictures]).save(here / "shapes.jpg", quality=84)


if __name__ == "__main__":
    main()
