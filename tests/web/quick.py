"""``python -m tests.web.quick PORT FOLDER``: the real server, whose jobs leave out nothing but the geometry.

For each line that it is sent it prints what it holds, as JSON; it stops when its input ends.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

from orfeas.library import Library, Retention
from orfeas.picture import load_picture
from orfeas.progress import Progress
from orfeas.recipe import write_recipe
from orfeas.result import load_result
from orfeas.settings import Settings
from orfeas.studio import Studio
from orfeas.web.heap import bound_arenas
from orfeas.web.housekeeper import Housekeeper
from orfeas.web.leftovers import Leftovers
from orfeas.web.serve import Server, start
from tests.conftest import PacedEngine
from tests.web.clients import use

HASTE = 360.0  # how much faster the library's clock runs: ten seconds are an hour
KEPT_MB = 0.5  # of results, some two hundred of these
TIDY_SECONDS = 2.0


class QuickStudio(Studio):
    """The real lane and library; a job writes down which picture it saw and what was asked."""

    def _make(self, request, kept, draw, owner):
        yield Progress("picture", 0.1, "Reading the picture")
        picture = load_picture(request.picture)
        seen = {"sha256": picture.sha256, "size_mm": request.size_mm}
        result_id = self.library.new_id()
        with self.library.write(result_id, owner) as folder:
            (folder / "model.stl").write_text(json.dumps(seen))
            shutil.copyfile(request.picture, folder / "picture.png")
            facts, files = {"seconds": {}}, {"model": "model.stl", "picture": "picture.png", "recipe": "recipe.json"}
            write_recipe(
                folder / "recipe.json",
                request=request, picture=picture, report=seen, facts=facts, notes=(), files=files,
            )  # fmt: skip
        yield load_result(self.library.results / result_id)


def start_quick(folder: Path, port: int, queue_size: int, library: Library | None = None) -> Server:
    settings = Settings(_env_file=None, engine="sketch", data_dir=folder, port=port, queue_size=queue_size)
    return start(QuickStudio(settings, PacedEngine(), library or Library(folder)), settings)


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    bound_arenas()
    began = time.time()
    library = Library(folder, Retention(gigabytes=KEPT_MB / 1000), lambda: began + HASTE * (time.time() - began))
    server = start_quick(folder, port, 100, library)
    tidy = Housekeeper(library, Leftovers(server.demo, Path(server.demo.GRADIO_CACHE)), TIDY_SECONDS)
    for _ in sys.stdin:
        print(json.dumps(use(folder)), flush=True)
    tidy.close()
    server.close()


if __name__ == "__main__":
    main()
