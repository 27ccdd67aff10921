"""``python -m orfeas PHOTO... -o OUT``: from photos or a recipe to files where they are wanted."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orfeas import __version__, request
from orfeas.arguments import COMMANDS, Parser, warn_of_unknown_settings
from orfeas.bundle import Entry, write_bundle
from orfeas.errors import BadRequest, Cancelled, OrfeasError
from orfeas.request import OPTIONS, GenerationRequest

if TYPE_CHECKING:
    from orfeas.recipe import KeptLatent
    from orfeas.result import Result
    from orfeas.settings import Settings
    from orfeas.studio import Studio

    Show = Callable[[float, str], None]  # a fraction of the work, and what is done

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
UNDONE = "The run was stopped before this was made: give it again."


def build_parser() -> Parser:
    """The parser of the main job. Options that are not given stay None, so that a recipe's own are kept."""
    low_mm, high_mm = request.SIZE_MM
    parser = Parser(
        prog="python -m orfeas",
        allow_abbrev=False,
        description="Turn photos into solid, printable 3D models.",
        epilog="Other commands: hash-password NAME, inspect MESH..., repair MESH -o OUT, download, doctor, backup, "
        "restore, verify; each has --help. Exit status: 0 all went well, 1 some pictures failed, 2 wrong use.",
    )
    parser.add_argument("pictures", nargs="*", type=Path, metavar="PHOTO", help="JPEG, PNG or WebP files, or folders")
    parser.add_argument(
        "-o", "--output", default=".", metavar="OUT",
        help="a file such as model.stl for one photo, a folder, or models.zip for all of them with a manifest.json;"
        " one folder that is not there is made, several are not (default: the current folder)",
    )  # fmt: skip
    parser.add_argument("--quality", metavar="NAME", help=f"{', '.join(request.QUALITY_NAMES)} (default: standard)")
    parser.add_argument("--format", metavar="NAME", help=f"{', '.join(request.FORMATS)} (default: stl)")
    parser.add_argument(
        "--size-mm",
        metavar="MM",
        help=f"longest side in millimetres, {low_mm:g} to {high_mm:g} (default: 100)",
    )
    parser.add_argument("--seed", metavar="N", help="0 to 4294967295 (default: drawn at random, and reported)")
    parser.add_argument("--background", metavar="NAME", help=f"{', '.join(request.BACKGROUNDS)} (default: auto)")
    parser.add_argument("--texture", metavar="NAME", help=f"{', '.join(request.TEXTURES)} (default: photo)")
    parser.add_argument(
        "--base", metavar="NAME", help="how it stands: none (as it is), cut (flat at the bottom) or plinth (on a plate)"
    )
    parser.add_argument("--max-faces", metavar="N", help="at most so many triangles (default: the quality's)")
    parser.add_argument(
        "--orientation", metavar="NAME",
        help="picture (as the picture shows it), standing (tilted to where it stands steadiest, for what was seen from"
        " above leans towards the camera) or flattest (turned to lie on its largest flat side) (default: picture)",
    )  # fmt: skip
    parser.add_argument(
        "--best-of", metavar="N",
        help=f"make {request.BEST_OF[0]} to {request.BEST_OF[1]} models of each photo, each with another seed; the best"
        " gets the name, the others have their seed in theirs",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", type=Path, metavar="FILE",
        help="make a result again from its recipe.json, with any other options given; Hunyuan3D re-meshes from the"
        " latent.npy beside it, without diffusion, unless --seed or the cutout is another",
    )  # fmt: skip
    parser.add_argument(
        "--engine", metavar="NAME", help="auto, sketch, hunyuan3d or ray (default: ORFEAS_ENGINE, or auto)"
    )
    parser.add_argument(
        "--sketch-shape", metavar="NAME",
        help="learned or inflation: where the built-in engine takes depth from (default: ORFEAS_SKETCH_SHAPE)",
    )  # fmt: skip
    parser.add_argument(
        "--keep", action="store_true",
        help="also keep the whole result (picture, cutout, GLB, still, turntable, recipe) in a folder beside the file",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON line a picture on standard output")
    parser.add_argument("--verbose", action="store_true", help="log what is done to standard error")
    parser.add_argument("--version", action="version", version=f"orfeas {__version__}")
    return parser


def run_generate(arguments: argparse.Namespace, open_studio: Callable[[Settings], Studio] | None = None) -> int:
    """Make a model of each picture; one that fails does not stop the others."""
    try:
        requests, latent = _collect_requests(arguments)
        count = arguments.best_of
        several = [[one] if count is None else request.with_seeds(one, count) for one in requests]
    except BadRequest as error:
        raise error.renamed({name: f"--{name.replace('_', '-')}" for name in (*OPTIONS, "best_of")}) from None
    folder, targets = _plan_targets(arguments, requests)

    import tempfile

    from orfeas.settings import load_settings
    from orfeas.studio import build_studio

    asked = {"engine": arguments.engine, "sketch_shape": arguments.sketch_shape}
    overrides = {name: value for name, value in asked.items() if value}
    warn_of_unknown_settings()
    first = arguments.output if _names_a_zip(arguments) else targets[0]
    with _made_folder(folder, first), tempfile.TemporaryDirectory(prefix="orfeas-") as scratch:
        settings = load_settings(**overrides, data_dir=Path(scratch))
        if arguments.verbose:
            from orfeas.telemetry import configure_logging

            configure_logging("info", settings.log_format)
        studio = (open_studio or build_studio)(settings)
        try:
            entries = _make_batch(studio, several, targets, latent, arguments)
        finally:
            studio.close()
    return 1 if any(entry.error for entry in entries) else 0


def _make_batch(
    studio: Studio,
    several: list[list[GenerationRequest]],
    targets: list[Path],
    latent: KeptLatent | None,
    arguments: argparse.Namespace,
) -> list[Entry]:
    """Make and deliver the models of each picture; where that breaks off, a ZIP has those that were made till then."""
    from structlog.contextvars import bound_contextvars

    is_zip = _names_a_zip(arguments)
    entries: list[Entry] = []
    try:
        with _progress_bars(quiet=arguments.json) as show_bar:
            for seeds, target in zip(several, targets, strict=True):
                with bound_contextvars(job=seeds[0].name):  # the log's lines say which picture they are about
                    first = len(entries)
                    with show_bar(str(seeds[0].picture)) as show:
                        for number, one in enumerate(seeds):
                            share = _share(show, number, len(seeds))
                            entries.append(_make_one(studio, one, latent, arguments, share))
                    entries[first:] = _rank_all(entries[first:], arguments)
                    for place, entry in enumerate(entries[first:]):
                        path = None if is_zip else _name_place(target, place, entry)
                        entries[first + place] = _hand_over(entry, path, arguments, studio.engine.caveat)
    except BaseException:
        begun = {entry.picture for entry in entries}
        undone = [picture for picture in (str(seeds[0].picture) for seeds in several) if picture not in begun]
        entries += [Entry(picture, error=UNDONE, code=Cancelled.default_code) for picture in undone]
        raise
    finally:
        if is_zip and any(entry.result for entry in entries):
            entries = _deliver_zip(entries, arguments)
    return entries


def _make_one(studio: Studio, one: GenerationRequest, latent, arguments, show: Show) -> Entry:
    from orfeas.progress import Progress
    from orfeas.telemetry import report_bug

    source = str(one.picture)
    try:
        for event in studio.run(one, latent, draw=arguments.keep):
            if isinstance(event, Progress):
                show(event.fraction, event.message)
        return Entry(source, event)
    except OrfeasError as error:
        return Entry(source, error=str(error), code=error.code)
    except Exception as error:  # one broken picture must not stop the rest
        return Entry(source, error=report_bug(error), code="bug")


def _rank_all(made: list[Entry], arguments: argparse.Namespace) -> list[Entry]:
    """The models of one picture, the best first, and what failed: once, not with every seed."""
    ranked = [entry for entry in made if entry.result]
    if arguments.best_of is not None and ranked:
        from orfeas.rank import explain_ranking, rank

        order = rank([entry.result for entry in ranked])
        facts = [{"rank": place, "agreement": round(one.agreement, 4)} for place, one in enumerate(order, start=1)]
        source = ranked[0].picture
        ranked = [replace(ranked[0], result=one.result, facts=fact) for one, fact in zip(order, facts, strict=True)]
        if len(ranked) > 1 and not arguments.json:
            print(f"{source}: {explain_ranking(order)}", file=sys.stderr)
    return [*ranked, *dict.fromkeys(entry for entry in made if entry.error)]


def _name_place(target: Path, place: int, entry: Entry) -> Path:
    """Where a model of a picture goes: the best to ``target``, the others beside it."""
    if entry.result is None or place == 0:
        return target
    return target.with_name(f"{target.stem}-seed-{entry.result.request.seed}{target.suffix}")


def _hand_over(entry: Entry, path: Path | None, arguments: argparse.Namespace, caveat: str) -> Entry:
    """Write one model to its place and say what came of it. path: None for a ZIP to come."""
    if result := entry.result:
        try:
            if path:
                _deliver(result, path, keep=arguments.keep)
        except OrfeasError as error:
            entry = replace(entry, result=None, error=str(error), code=error.code)
        _make_room(result, keep_model=path is None)
    _say(entry, path, arguments, caveat)
    return entry


def _make_room(result: Result, keep_model: bool) -> None:
    """Remove from the scratch folder what nobody needs any more: a long batch would fill the disk."""
    with suppress(OSError):  # what stays goes with that folder
        for file in result.folder.iterdir():
            if not (keep_model and file == result.files["model"]):
                file.unlink()


def _deliver_zip(entries: list[Entry], arguments: argparse.Namespace) -> list[Entry]:
    """Write the ZIP and say so; where it cannot be written, there is none of its models."""
    from orfeas.mesh.change import counted

    output, made = arguments.output, [entry for entry in entries if entry.result]
    try:
        manifest = _write_zip(output, entries)
        models = counted(len(manifest["made"]), "model")
        print(f"{output}: {models}, {len(manifest['failed'])} failed", file=sys.stderr)
    except OrfeasError as error:
        print(f"orfeas: {error}", file=sys.stderr)
        made = [replace(entry, result=None, error=str(error), code=error.code) for entry in made]
    if arguments.json:
        for entry in made:
            print(json.dumps(_describe(entry, output)), flush=True)
    return [*made, *(entry for entry in entries if entry.error)]


def _write_zip(output: Path, entries: list[Entry]) -> dict[str, Any]:
    part = _name_part(output)
    try:
        manifest = write_bundle(part, entries)
        part.replace(output)
    except OSError as error:
        raise OrfeasError(f"{output} cannot be written: {error.strerror}.", "output") from error
    finally:
        _discard(part)
    return manifest


def _say(entry: Entry, path: Path | None, arguments: argparse.Namespace, caveat: str) -> None:
    """Say what came of one model. path: None for a ZIP to come. caveat: a note that is left out."""
    if entry.error:
        if arguments.json:
            print(json.dumps(_describe(entry, path)), flush=True)
        print(f"orfeas: {entry.picture}: {entry.error}", file=sys.stderr)
    elif arguments.json:
        if path:  # the line names the ZIP: it comes once that is there
            print(json.dumps(_describe(entry, path)), flush=True)
    else:
        report, facts, notes = entry.result.report, entry.result.facts, entry.result.notes
        width, height, depth = report["extents_mm"]
        source = path or entry.picture
        if path and (len(arguments.pictures) > 1 or any(one.is_dir() for one in arguments.pictures)):
            source = f"{entry.picture} -> {path}"
        print(
            f"{source}: {width:.1f} wide × {height:.1f} high × {depth:.1f} deep mm, "
            f"{report['faces']:,} faces, seed {facts['seed']}, {facts['engine']} engine, "
            f"{facts['seconds']['total']:.1f} s. {report['sentence']}",
            *(f"  {note}" for note in (*report["notes"], *notes) if note != caveat),
            sep="\n",
            flush=True,
        )


def _describe(entry: Entry, path: Path | None) -> dict[str, Any]:
    """The line of JSON on one model. path: where it is."""
    if entry.error:
        return {"picture": entry.picture, "error": entry.error, "code": entry.code}
    report, facts = entry.result.report, entry.result.facts
    return {
        "picture": entry.picture,
        "path": str(path),
        **(entry.facts or {}),
        "engine": facts["engine"],
        "remeshed": facts.get("remeshed", False),
        "seconds": facts["seconds"],
        "peak_memory_mb": facts["peak_memory_mb"],
        "faces": report["faces"],
        "watertight": report["watertight"],
        "extents_mm": report["extents_mm"],
        "volume_cm3": report["volume_cm3"],
        "verdict": report["verdict"],
        "seed": facts["seed"],
        "report": dict(report),
        "notes": list(entry.result.notes),
    }


def _collect_requests(arguments: argparse.Namespace) -> tuple[list[GenerationRequest], KeptLatent | None]:
    """All that is asked for, checked before any work begins, and the latent of the recipe, if there is one."""
    given = {key: getattr(arguments, key) for key in OPTIONS if getattr(arguments, key) is not None}
    suffix = arguments.output.suffix.lower().lstrip(".")
    names_a_file = suffix in request.FORMATS and not arguments.output.is_dir()
    if names_a_file and given.setdefault("format", suffix) != suffix:
        raise BadRequest(
            f"The output {arguments.output} does not fit --format {given['format']}: change one of the two."
        )
    if arguments.recipe:
        if arguments.pictures:
            raise BadRequest("Give either pictures or --recipe FILE: a recipe names its own picture.")
        from orfeas.recipe import read_recipe

        recipe = read_recipe(arguments.recipe)
        return [GenerationRequest.from_options(recipe.picture, {**recipe.options, **given})], recipe.latent
    if not arguments.pictures:
        raise BadRequest("No picture was given: python -m orfeas PHOTO -o model.stl (--help tells more).")
    for path in arguments.pictures:
        if not os.path.exists(path):
            raise BadRequest(_explain_absent(path, arguments.pictures), "no_picture")
    pictures = [picture for path in arguments.pictures for picture in _expand(path)]
    return [GenerationRequest.from_options(picture, given) for picture in pictures], None


def _expand(path: Path) -> list[Path]:
    """The pictures of a folder, or the one that a path names."""
    if not path.is_dir():
        return [path]
    try:
        pictures = sorted(item for item in path.iterdir() if item.suffix.lower() in PICTURE_SUFFIXES and item.is_file())
    except OSError as error:
        raise BadRequest(f"The folder {path} cannot be read: {error.strerror}.") from None
    if not pictures:
        raise BadRequest(f"The folder {path} has no JPEG, PNG or WebP picture in it: give another.")
    return pictures


def _explain_absent(path: Path, pictures: list[Path]) -> str:
    """Why there is nothing at ``path``, which is one of ``pictures``."""
    word = str(path)
    if not re.fullmatch(r"[\w-]+", word):
        return f"There is no picture {word}: check its name and its folder."
    # neither an ending nor a folder: it was meant as a command
    if near := get_close_matches(word, COMMANDS, n=1):
        remedy = f"did you mean python -m orfeas {near[0]}?"
    else:
        others = [str(one) for one in pictures if one != path]
        remedy = f"write python -m orfeas {' '.join(others[:3]) or 'PHOTO'}."
    return f"There is neither a picture nor a command {word}: {remedy}"


def _plan_targets(arguments: argparse.Namespace, requests: list[GenerationRequest]) -> tuple[Path, list[Path]]:
    """The folder of the results, and where in it each goes; no two the same, whatever their letters' case."""
    from orfeas.export import file_name

    output: Path = arguments.output
    suffix = output.suffix.lower().lstrip(".")
    is_file = suffix in request.FORMATS and not output.is_dir()
    is_zip = _names_a_zip(arguments)
    if is_zip and arguments.keep:
        raise BadRequest("--keep writes folders, which a ZIP has no place for: give a folder as the output.")
    if suffix and not is_file and not is_zip and not output.is_dir() and not arguments.output_is_folder:
        raise BadRequest(
            f"The output {output} has an ending that is no format here: use .{', .'.join(request.FORMATS)} or .zip, or"
            " end a folder's name with a slash."
        )
    several = len(requests) > 1 or any(path.is_dir() for path in arguments.pictures)
    if is_file and several:
        raise BadRequest(f"Several pictures cannot all become {output}: give a folder as the output.")
    folder = output.parent if is_file or is_zip else output
    if is_file:
        return folder, [output]
    targets: list[Path] = []
    taken: set[str] = set()  # whatever the case of letters, which some disks do not tell apart
    for one in requests:
        number, name = 2, one.name
        while (target := folder / file_name(name, one.size_mm, one.format)).name.lower() in taken:
            name, number = request.number_name(one.name, number), number + 1
        taken.add(target.name.lower())
        targets.append(target)
    return folder, targets


@contextmanager
def _made_folder(folder: Path, first: Path) -> Iterator[None]:
    """Make the folder of the results before the work, and see that ``first``, a file of it, can be written.

    A folder that was made here and that nothing came into goes again.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:  # a whole path that is not there is rather a slip than a wish
        raise BadRequest(
            f"The output folder {folder} cannot be made: {folder.parent} is not there; make it first or name another."
        ) from None
    except OSError as error:
        raise BadRequest(f"The output folder {folder} cannot be made: {error.strerror}.") from error
    try:
        _check_writable(first)
        yield
    finally:
        if is_new:
            with suppress(OSError):  # there is something in it, or it is gone already
                folder.rmdir()


def _check_writable(path: Path) -> None:
    part = _name_part(path)
    try:
        part.write_bytes(b"\0")  # one that is empty could be made on a full disk as well
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {error.strerror}; name another output with -o.") from None
    finally:
        _discard(part)


def _name_part(path: Path) -> Path:
    """What is on its way to ``path``, beside it."""
    return path.with_name(f".{path.name}.part")


def _discard(part: Path) -> None:
    with suppress(OSError):  # it is in its place, or could not be made, which is told
        part.unlink()


def _names_a_zip(arguments: argparse.Namespace) -> bool:
    output: Path = arguments.output
    return output.suffix.lower() == ".zip" and not output.is_dir() and not arguments.output_is_folder


def _deliver(result: Result, target: Path, keep: bool) -> None:
    """Copy the file (and, with ``keep``, its whole folder) to its place; neither is ever half there."""
    part = _name_part(target)
    try:
        shutil.copyfile(result.files["model"], part)
        if keep:
            _keep(result.folder, target.with_name(f"{target.stem}.orfeas"))
        part.replace(target)
    except OSError as error:
        raise OrfeasError(f"{target} cannot be written: {error.strerror or error}.", "output") from error
    finally:
        _discard(part)


def _keep(source: Path, folder: Path) -> None:
    """Copy a result's folder to ``folder``; what is there stays until the copy is whole."""
    part, old = _name_part(folder), folder.with_name(f".{folder.name}.old")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        part.mkdir()
        for file in source.iterdir():
            shutil.copyfile(file, part / file.name)
        if folder.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        part.rename(folder)
    finally:
        if old.is_dir() and not folder.exists():
            old.rename(folder)
        for path in (part, old):
            shutil.rmtree(path, ignore_errors=True)


def _share(show: Show, number: int, count: int) -> Show:
    """``show`` for one job of ``count`` that share a bar."""
    if count == 1:
        return show
    return lambda fraction, message: show((number + fraction) / count, f"{number + 1} of {count}: {message}")


@contextmanager
def _progress_bars(quiet: bool) -> Iterator[Callable[[str], AbstractContextManager[Show]]]:
    """On a terminal, a bar for a picture while it is worked on; nothing elsewhere: logs and pipes stay clean."""
    if quiet or not sys.stderr.isatty():
        yield lambda source: nullcontext(lambda fraction, message: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.fields[source]}", markup=False), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
               TextColumn("{task.description}"), TimeElapsedColumn())  # fmt: skip
    redirects = sys.stdout.isatty()  # else the lines of a file or a pipe would go to the terminal
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=redirects) as bars:

        @contextmanager
        def show_bar(source: str) -> Iterator[Show]:
            task = bars.add_task("", total=1.0, source=Path(source).name)
            try:
                yield lambda fraction, message: bars.update(task, completed=fraction, description=message)
            finally:
                bars.remove_task(task)

        yield show_bar
