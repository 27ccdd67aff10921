"""The four commands: release, rollback, backup, restore. Exit status 0, or 1 with one sentence."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from operate.config import Config, Failed, check_tag, read_env
from operate.drivers import Driver, choose_driver
from operate.switch import Switched, fits_beside, settle, switch

ROOT = Path(__file__).resolve().parents[2]
ARCHIVES = 5  # of those that releases make; what deploy/backup made is the operator's


def main(command: Callable[[argparse.Namespace, Config, Driver], None], parser: argparse.ArgumentParser) -> int:
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout with .env (default: this one)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a connection that drops must not leave two versions behind
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script that began this in the background ignores it
    try:
        config = Config(arguments.root.absolute())
        with config.alone():
            command(arguments, config, choose_driver(config))
    except Failed as failure:
        problem = str(failure)
    except OSError as error:
        what = f"{error.strerror} ({error.filename})" if error.filename else str(error)
        problem = f"{what}: see to that, and give the command again."
    except KeyboardInterrupt:
        problem = "Interrupted: give the command again, and what was begun is finished or begun anew."
    else:
        return 0
    _print(f"{parser.prog}: {problem}")
    return 1


# --- release and rollback ----------------------------------------------------------------------------------------


def release_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("release", description="Build a version, back up the data, and switch to it.")
    parser.add_argument("tag", help="the version, such as v1.2.0: a new git tag, or one that exists")
    parser.add_argument("--no-backup", action="store_true", help="do not archive the data first")
    _add_ways(parser)
    return parser


def release(arguments: argparse.Namespace, config: Config, driver: Driver) -> None:
    tag, began = check_tag(arguments.tag), time.monotonic()
    broken_off = settle(driver, say)
    running = driver.running()
    if tag in {entry.tag for entry in running}:
        _finish(config, tag, "release", broken_off)
        return
    if not driver.has(tag):
        _tag_checkout(config.root, tag)
        say(f"building {tag}")
        driver.build(tag)
    previous, archive = running[-1].tag if running else "", ""
    if running and not arguments.no_backup:
        archive = str(write_archive(config, driver, previous, f"before-{tag}"))
    done = _switch(
        arguments, config, driver, tag, routed=lambda: _write_down(config, "release", tag, previous, archive)
    )
    report(f"released {tag}", done, began)
    # only now: while releases fail, the archive of the last one that did not has to stay
    for old in sorted(config.backups.glob("before-*.tar"), key=lambda path: path.stat().st_mtime)[:-ARCHIVES]:
        old.unlink()
        say(f"removed {old}: the last {ARCHIVES} of releases are kept")


def rollback_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rollback", description="Switch to the version before, or to any that is there.")
    parser.add_argument("tag", nargs="?", help="the version (default: the one before the last release)")
    parser.add_argument("--data", action="store_true", help="put the data back as they were before the last release")
    _add_ways(parser)
    return parser


def rollback(arguments: argparse.Namespace, config: Config, driver: Driver) -> None:
    began = time.monotonic()
    broken_off = settle(driver, say)
    # a rollback's own record would lead forward again
    releases = [entry for entry in config.releases() if entry.get("kind") != "rollback"]
    last = releases[-1] if releases else {}
    tag = arguments.tag or last.get("previous")
    if not tag:
        raise Failed("No version before this one is on record: name the one to go back to.")
    if not driver.has(check_tag(tag)):
        raise Failed(f"{tag} is not here any more: build it from its git tag with deploy/release {tag}.")
    running = driver.running()
    if not arguments.data and tag in {entry.tag for entry in running}:
        _finish(config, tag, "rollback", broken_off)
        return
    previous = running[-1].tag if running else ""
    with contextlib.ExitStack() as stack:
        between = None
        if arguments.data:
            archive = last.get("archive")
            if not archive or not Path(archive).is_file():
                raise Failed("The last release left no archive of the data: restore one of yours with deploy/restore.")
            if arguments.beside:
                raise Failed("Data are put back while no version runs: --data and --beside exclude each other.")
            arguments.after = True
            between = stack.enter_context(_data_of(driver, tag, Path(archive)))
        done = _switch(
            arguments, config, driver, tag, between, lambda: _write_down(config, "rollback", tag, previous, "")
        )
    report(f"rolled back to {tag}", done, began)


def _write_down(config: Config, kind: str, tag: str, previous: str, archive: str) -> None:
    """The tag comes last: while .env names another version than the one that runs, this is done again."""
    config.record(kind=kind, tag=tag, previous=previous, archive=archive)
    config.write_tag(tag)


def _finish(config: Config, tag: str, kind: str, broken_off: bool) -> None:
    """Do what is missing of a switch to the version that runs. Raises `Failed` if nothing is."""
    written = read_env(config.env_file).get("ORFEAS_TAG", "")
    if not broken_off and written == tag:
        raise Failed(f"{tag} runs already: name another version.")
    if written != tag:
        archives = sorted(map(str, config.backups.glob(f"before-{tag}-*.tar")))
        _write_down(config, kind, tag, written, archives[-1] if archives and kind == "release" else "")
    say(f"{tag} runs: the switch to it is finished")


def _add_ways(parser: argparse.ArgumentParser) -> None:
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--beside", action="store_true", help="start it beside the old one, whatever memory is free")
    ways.add_argument("--after", action="store_true", help="stop the old one first")


def _switch(arguments, config: Config, driver: Driver, tag: str, between=None, routed=lambda: None) -> Switched:
    beside, why = fits_beside(config)
    if arguments.beside or arguments.after:
        beside, why = arguments.beside, "as asked"
    say(f"starting {tag} {'beside' if beside else 'after'} the old version: {why}")
    return switch(driver, tag, beside, between, routed)


def _tag_checkout(root: Path, tag: str) -> None:
    """What is built is what the tag names: HEAD, without changes."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"git {' '.join(words)} failed: {done.stderr.strip()}")
        return done.stdout.strip()

    # deploy/upstreams differs where a release was broken off; the image does not hold it
    if git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!deploy/upstreams"):
        raise Failed("The checkout has changes: commit them, so that the version can be told.")
    if tag not in git("tag", "--list", tag).split():
        git("tag", tag)
    elif git("rev-parse", f"{tag}^{{commit}}") != git("rev-parse", "HEAD"):
        raise Failed(f"{tag} is another commit: git checkout {tag}, or take a new version.")


# --- backup and restore ------------------------------------------------------------------------------------------


def backup_parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser("backup", description="Archive the data folder; the app may run.")


def backup(arguments: argparse.Namespace, config: Config, driver: Driver) -> None:
    print(write_archive(config, driver, current_tag(config, driver), "backup"))


def restore_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("restore", description="Stop the app, put an archive's data back, start it again.")
    parser.add_argument("archive", type=Path)
    return parser


def restore(arguments: argparse.Namespace, config: Config, driver: Driver) -> None:
    if not arguments.archive.is_file():
        raise Failed(f"There is no file {arguments.archive}.")
    began = time.monotonic()
    settle(driver, say)
    tag = current_tag(config, driver)
    with _data_of(driver, tag, arguments.archive) as between:
        done = switch(driver, tag, beside=False, between=between)
    report(f"restored {arguments.archive}", done, began)


def write_archive(config: Config, driver: Driver, tag: str, name: str) -> Path:
    """Raises `Failed`, also where there is less room than the last archive took."""
    began = time.monotonic()
    config.backups.mkdir(parents=True, exist_ok=True)
    last = max((path.stat() for path in config.backups.glob("*.tar")), key=lambda stat: stat.st_mtime, default=None)
    free = shutil.disk_usage(config.backups).free
    if last and free < last.st_size:
        raise Failed(
            f"{config.backups} has {free / 1e6:.0f} MB free, and the last archive took {last.st_size / 1e6:.0f}:"
            " remove old archives, or name another folder in ORFEAS_BACKUPS."
        )
    path = config.backups / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.tar"
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            part.chmod(0o600)
            driver.run(tag, ["backup", "-"], stdout=file)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    say(f"archived the data: {path}, {path.stat().st_size / 1e6:.1f} MB in {time.monotonic() - began:.1f} s")
    return path


@contextlib.contextmanager
def _data_of(driver: Driver, tag: str, archive: Path) -> Iterator[Callable[[], None]]:
    """Puts the data of ``archive`` back when called. Opened before anything is stopped: it may be somebody else's.

    Raises `Failed`; a failure after the data were put back says so, for the version that runs then has the archive's.
    """
    try:
        file = archive.open("rb")
    except OSError as error:
        raise Failed(f"{archive} cannot be read ({error.strerror}): take the user who made it, or sudo.") from None
    are_back = False

    def put_back() -> None:
        nonlocal are_back
        driver.run(tag, ["restore", "-"], stdin=file)
        are_back = True
        driver.run(tag, ["verify"])
        say(f"the data of {archive} are back, and verified")

    with file:
        try:
            yield put_back
        except (Failed, OSError, KeyboardInterrupt) as failure:
            if not are_back:
                raise
            raise Failed(
                f"{str(failure) or 'Interrupted.'}\nThe data are those of {archive} now; what was there before is kept"
                " beside them, in the newest folder before-restore-...."
            ) from failure


def current_tag(config: Config, driver: Driver) -> str:
    running = driver.running()
    tag = running[-1].tag if running else config.get("ORFEAS_TAG")
    if not tag:
        raise Failed("No version runs, and ORFEAS_TAG is not set in .env.")
    return tag


# --- saying it ---------------------------------------------------------------------------------------------------


def say(sentence: str) -> None:
    _print(f"{time.strftime('%H:%M:%S')} {sentence}")


def _print(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone, and the work goes on
        print(line, file=sys.stderr)


def report(what: str, done: Switched, began: float) -> None:
    say(
        f"{what} in {time.monotonic() - began:.1f} s: ready after {done.started:.1f} s, the old version's jobs took"
        f" {done.drained:.1f} s more, {done.away:.1f} s without a server (requests were held)"
    )
