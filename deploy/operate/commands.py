"""The four commands: release, rollback, backup, restore. Exit status 0, or 1 with one sentence."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from operate.config import Config, Failed, check_tag
from operate.drivers import Driver, choose_driver
from operate.switch import Switched, fits_beside, switch

ROOT = Path(__file__).resolve().parents[2]


def main(command: Callable[[argparse.Namespace, Config, Driver], None], parser: argparse.ArgumentParser) -> int:
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout with .env (default: this one)")
    arguments = parser.parse_args()
    try:
        config = Config(arguments.root.absolute())
        with config.alone():
            command(arguments, config, choose_driver(config))
    except Failed as failure:
        print(f"{parser.prog}: {failure}", file=sys.stderr)
        return 1
    return 0


# --- release and rollback ----------------------------------------------------------------------------------------


def release_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("release", description="Build a version, back up the data, and switch to it.")
    parser.add_argument("tag", help="the version, such as v1.2.0: a new git tag, or one that exists")
    parser.add_argument("--no-backup", action="store_true", help="do not archive the data first")
    _add_ways(parser)
    return parser


def release(arguments: argparse.Namespace, config: Config, driver: Driver) -> None:
    tag, began = check_tag(arguments.tag), time.monotonic()
    running = driver.running()
    if tag in {entry.tag for entry in running}:
        raise Failed(f"{tag} runs already.")
    if not driver.has(tag):
        _tag_checkout(config.root, tag)
        say(f"building {tag}")
        driver.build(tag)
    archive = ""
    if running and not arguments.no_backup:
        archive = str(write_archive(config, driver, running[-1].tag, f"before-{tag}"))
    done = _switch(arguments, config, driver, tag)
    config.write_tag(tag)
    config.record(tag=tag, previous=running[-1].tag if running else "", archive=archive)
    report(f"released {tag}", done, began)


def rollback_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("rollback", description="Switch to the version before, or to any that is there.")
    parser.add_argument("tag", nargs="?", help="the version (default: the one before the last release)")
    parser.add_argument("--data", action="store_true", help="put the data back as they were before the last release")
    _add_ways(parser)
    return parser


def rollback(arguments: argparse.Namespace, config: Config, driver: Driver) -> None:
    began, releases = time.monotonic(), config.releases()
    last = releases[-1] if releases else {}
    tag = arguments.tag or last.get("previous")
    if not tag:
        raise Failed("No version before this one is on record: name the one to go back to.")
    if not driver.has(check_tag(tag)):
        raise Failed(f"{tag} is not here any more: build it from its git tag with deploy/release {tag}.")
    between = None
    if arguments.data:
        archive = last.get("archive")
        if not archive or not Path(archive).is_file():
            raise Failed("The last release left no archive of the data: restore one of yours with deploy/restore.")
        between = lambda: _restore(driver, tag, Path(archive))  # noqa: E731
        if arguments.beside:
            raise Failed("Data are put back while no version runs: --data and --beside exclude each other.")
        arguments.after = True
    running = driver.running()
    done = _switch(arguments, config, driver, tag, between)
    config.write_tag(tag)
    config.record(tag=tag, previous=running[-1].tag if running else "", archive="")
    report(f"rolled back to {tag}", done, began)


def _add_ways(parser: argparse.ArgumentParser) -> None:
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--beside", action="store_true", help="start it beside the old one, whatever memory is free")
    ways.add_argument("--after", action="store_true", help="stop the old one first")


def _switch(arguments, config: Config, driver: Driver, tag: str, between=None) -> Switched:
    beside, why = fits_beside(config)
    if arguments.beside or arguments.after:
        beside, why = arguments.beside, "as asked"
    say(f"starting {tag} {'beside' if beside else 'after'} the old version: {why}")
    return switch(driver, tag, beside, between)


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
    began, tag = time.monotonic(), current_tag(config, driver)
    done = switch(driver, tag, beside=False, between=lambda: _restore(driver, tag, arguments.archive))
    report(f"restored {arguments.archive}", done, began)


def write_archive(config: Config, driver: Driver, tag: str, name: str) -> Path:
    began = time.monotonic()
    config.backups.mkdir(parents=True, exist_ok=True)
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


def _restore(driver: Driver, tag: str, archive: Path) -> None:
    with archive.open("rb") as file:
        driver.run(tag, ["restore", "-"], stdin=file)
    driver.run(tag, ["verify"])
    say(f"the data of {archive} are back, and verified")


def current_tag(config: Config, driver: Driver) -> str:
    running = driver.running()
    tag = running[-1].tag if running else config.get("ORFEAS_TAG")
    if not tag:
        raise Failed("No version runs, and ORFEAS_TAG is not set in .env.")
    return tag


# --- saying it ---------------------------------------------------------------------------------------------------


def say(sentence: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {sentence}", file=sys.stderr)


def report(what: str, done: Switched, began: float) -> None:
    say(
        f"{what} in {time.monotonic() - began:.1f} s: ready after {done.started:.1f} s, the old version's jobs took"
        f" {done.drained:.1f} s more, {done.away:.1f} s without a server (requests were held)"
    )
