"""``recipe.json``: what made a result, and how to make it again; of Hunyuan3D also the latent, to mesh it anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orfeas import __version__
from orfeas.errors import BadRequest
from orfeas.verify import hash_file

if TYPE_CHECKING:
    import numpy as np

    from orfeas.cutout import Cutout
    from orfeas.engines import Engine
    from orfeas.picture import Picture
    from orfeas.request import GenerationRequest

LATENT = "latent.npy"
MAX_LATENT_BYTES = 16 << 20  # the released model's has half a megabyte


@dataclass(frozen=True)
class KeptLatent:
    """An array that an engine kept beside a recipe, and what it was made of.

    cutout_sha256: `hash_cutout` of what the engine saw; with the engine and the seed it stands for picture, background
        and taps. diffusion_steps, approximations: how it was sampled, for the next recipe.
    weights: the identity of the engine's, which is a part of its version; "" where an older recipe does not know it.
    """

    path: Path
    engine: str
    seed: int
    cutout_sha256: str
    diffusion_steps: int | None = None
    approximations: tuple[str, ...] = ()
    weights: str = ""

    def explain_misfit(self, engine: Engine, seed: int, cutout: Cutout) -> str:
        """Why a job cannot start from this latent, in a sentence; "" if it can."""
        if self.engine != engine.name or not hasattr(engine, "remesh"):
            why = f"it is of the engine {self.engine}, and here {engine.name} runs"
        elif self.weights and self.weights not in engine.version.split("-"):
            why = "it was made with other weights than are here"
        elif self.seed != seed:
            why = f"its seed is {self.seed}, and {seed} was asked for"
        elif self.cutout_sha256 != hash_cutout(cutout):
            why = "the cutout is another"
        elif not self.path.is_file():
            why = f"{self.path.name} is not beside the recipe"
        else:
            return ""
        return f"The kept latent was not used, for {why}: the shape was made anew."

    def load(self) -> np.ndarray:
        """The array. Raises `BadRequest` for a file that holds none; never unpickles, never reads more than a limit."""
        import numpy as np

        try:
            if self.path.stat().st_size > MAX_LATENT_BYTES:
                raise ValueError(f"it has more than {MAX_LATENT_BYTES >> 20} MB")
            with self.path.open("rb") as file:
                if file.read(6) != np.lib.format.MAGIC_PREFIX:  # numpy would also open archives and pickles
                    raise ValueError("it is no .npy file")
            # Mapped: a header that promises more than the file has allocates nothing.
            return np.array(np.load(self.path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError, SyntaxError, OverflowError) as error:
            raise BadRequest(
                f"The kept latent {self.path} cannot be read ({str(error).splitlines()[0][:80]}): remove it, and the"
                " shape is made anew.",
                "bad_latent",
            ) from error

    def how_sampled(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Facts for the new recipe: ``facts`` of the re-meshing know nothing of the diffusion before it."""
        approximations = dict.fromkeys([*self.approximations, *facts.get("approximations", ())])
        return {"remeshed": True, "diffusion_steps": self.diffusion_steps, "approximations": list(approximations)}

    @property
    def note(self) -> str:
        steps = f" of {self.diffusion_steps} diffusion steps" if self.diffusion_steps else ""
        approximated = f", which was sampled with {', '.join(self.approximations)}" if self.approximations else ""
        return f"Re-meshed from the kept latent{steps}{approximated}; the diffusion was not run again."


@dataclass(frozen=True)
class Recipe:
    """What a ``recipe.json`` asks for. options: as `GenerationRequest.from_options` takes them."""

    picture: Path
    options: Mapping[str, Any]
    latent: KeptLatent | None = None


def read_recipe(path: Path) -> Recipe:
    """The picture, the options and the latent that a ``recipe.json`` records. Raises `BadRequest` if it is none."""
    path = Path(path)
    if not path.is_file():
        raise BadRequest(f"There is no file {path}: give the recipe.json of a result's folder.", "bad_recipe")
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))
        picture = path.parent / Path(recipe["picture"]["file"]).name
        options = dict(recipe["request"])
        latent = _find_latent(path.parent, recipe.get("files", {}), recipe.get("facts", {}))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadRequest(f"{path} is not a recipe: give the recipe.json of a result's folder.", "bad_recipe") from error
    if not picture.is_file():
        raise BadRequest(f"{path} names the picture {picture.name}, which is not beside it.", "bad_recipe")
    return Recipe(picture, options, latent)


def write_recipe(
    path: Path,
    *,
    request: GenerationRequest,
    picture: Picture,
    report: Mapping[str, Any],
    facts: Mapping[str, Any],
    notes: Sequence[str],
    files: Mapping[str, str],
) -> None:
    """Write ``recipe.json``. files: what lies beside it, by name; their hashes are kept too."""
    recipe = {
        "orfeas": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "request": request.options(),
        "picture": {"file": files["picture"], "sha256": picture.sha256},
        "report": report,
        "facts": facts,
        "notes": list(notes),
        "files": files,
        "sha256": {name: hash_file(path.with_name(name)) for name in files.values() if name != path.name},
    }
    path.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")


def fingerprint(picture_sha256: str, request: GenerationRequest, engine: Engine) -> str:
    """SHA-256 of all that decides what is in a result: picture, options, ways to a cutout, engine and versions."""
    from orfeas.cutout import default_finders

    finders = [method for method, _ in default_finders()]
    facts = [picture_sha256, request.options(), finders, engine.name, engine.version, __version__]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def hash_picture(picture: Path | bytes) -> str:
    """SHA-256 of the picture's bytes, in hex, as `orfeas.picture.Picture` has it. Raises `OSError`."""
    return hashlib.sha256(picture if isinstance(picture, bytes) else Path(picture).read_bytes()).hexdigest()


def hash_cutout(cutout: Cutout) -> str:
    """SHA-256 of all that an engine sees of a cutout, in hex."""
    height, width = cutout.rgba.shape[:2]
    return hashlib.sha256(b"%d %d " % (height, width) + cutout.rgba.tobytes()).hexdigest()


def _find_latent(folder: Path, files: Mapping[str, str], facts: Mapping[str, Any]) -> KeptLatent | None:
    if "latent" not in files:
        return None
    return KeptLatent(
        folder / Path(files["latent"]).name,
        str(facts.get("engine")),
        facts.get("seed"),
        str(facts.get("cutout_sha256")),
        facts.get("diffusion_steps"),
        tuple(map(str, facts.get("approximations", ()))),
        str(facts.get("weights_identity", "")),
    )
