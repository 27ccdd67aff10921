"""The command line: ``python -m orfeas PHOTO... -o OUT``, and the commands inspect, repair, download, doctor,
hash-password, backup, restore and verify.

Exit status: 0 all went well, 1 some pictures failed, 2 wrong use (130 if interrupted, 128 + n where signal n ended it).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from orfeas.arguments import COMMANDS, Parser, add_command, warn_of_unknown_settings
from orfeas.errors import OrfeasError
from orfeas.generate_cli import build_parser, run_generate

if TYPE_CHECKING:
    from orfeas.settings import Settings
    from orfeas.studio import Studio

READ_SETTINGS = ("download", "backup", "restore", "verify")  # doctor too, which tells of them itself


def main(argv: list[str] | None = None, open_studio: Callable[[Settings], Studio] | None = None) -> int:
    """Run one command and return its exit status. open_studio: in place of `orfeas.studio.build_studio`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal's encoding has not is no reason to break off
            stream.reconfigure(errors="backslashreplace")
    try:
        with _ended_by_signals():
            if argv and argv[0] in COMMANDS:
                return _run_command(argv)
            arguments = build_parser().parse_args(argv)
            arguments.output_is_folder = arguments.output.endswith(("/", os.sep))
            arguments.output = Path(arguments.output)
            return run_generate(arguments, open_studio)
    except OrfeasError as error:
        print(f"orfeas: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("orfeas: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (or Python complains again when it flushes at exit)
        return 1


def _run_command(argv: list[str]) -> int:
    parser = Parser(prog="python -m orfeas")
    commands = parser.add_subparsers(dest="command", required=True)
    add_command(commands, argv[0])
    arguments = parser.parse_args(argv)
    if argv[0] in READ_SETTINGS:
        warn_of_unknown_settings()
    return arguments.func(arguments)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP end the program by an exception, so that its temporary files go."""
    if threading.current_thread() is not threading.main_thread():  # no other may set handlers
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no HUP
    numbers = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]  # nohup ignores it

    def end(number: int, frame: object) -> None:
        for other in numbers:  # a closed terminal sends two: the second must not break off the clearing up
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
