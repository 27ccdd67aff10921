"""The commands there are, and their parser, whose errors are one sentence each: what is wrong, and where help is."""

from __future__ import annotations

import argparse
import re
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import NoReturn

from orfeas.errors import BadRequest

# What adds each command to a parser, imported when the command is given.
COMMANDS = {
    "inspect": ("orfeas.mesh.cli", "add_inspect_parser"),
    "repair": ("orfeas.mesh.cli", "add_repair_parser"),
    "download": ("orfeas.engines.hunyuan3d.download", "add_download_parser"),
    "doctor": ("orfeas.doctor", "add_doctor_parser"),
    "hash-password": ("orfeas.accounts", "add_hash_password_parser"),
    "backup": ("orfeas.backup", "add_backup_parser"),
    "restore": ("orfeas.backup", "add_restore_parser"),
    "verify": ("orfeas.verify", "add_verify_parser"),
}
# What argparse says, in the words of Python 3.10 to 3.12, and what is said here.
_SENTENCES = (
    (r"argument (\S+): expected one argument", r"\1 needs a value"),
    (r"argument (\S+): invalid int value: (.+)", r"\1 cannot be \2: use a whole number"),
    (r"argument (\S+): invalid float value: (.+)", r"\1 cannot be \2: use a number"),
    (r"argument (\S+): invalid choice: (.+) \(choose from (.+)\)", r"\1 cannot be \2: use one of \3"),
    (r"the following arguments are required: (.+)", r"\1 is missing"),
)


class Parser(argparse.ArgumentParser):
    """Raises `BadRequest` where argparse prints its usage and exits. Its subcommands' parsers are of this kind too."""

    def parse_known_args(self, args=None, namespace=None):
        """As `argparse` does it; an option that is not known is refused here, where the known ones are."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown[0].split("=")[0])
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        for pattern, sentence in _SENTENCES:
            if found := re.fullmatch(pattern, message):
                message = found.expand(sentence)
                break
        raise BadRequest(f"{message} ({self.prog} --help tells more).", "bad_arguments")

    def _refuse(self, word: str) -> NoReturn:
        if not word.startswith("-"):
            self.error(f"{word!r} is one too many")
        near = get_close_matches(word.strip("-"), re.findall(r"--([a-z][\w-]*)", self.format_help()), n=1)
        if near:
            raise BadRequest(f"There is no option {word}: did you mean --{near[0]}?", "bad_arguments")
        self.error(f"There is no option {word}")


def add_command(commands, name: str) -> None:
    """Add the parser of one of `COMMANDS` to what `Parser.add_subparsers` returned."""
    module, add_parser = COMMANDS[name]
    getattr(import_module(module), add_parser)(commands)


def warn_of_unknown_settings() -> None:
    """Print a sentence on standard error for each ORFEAS_* variable that nothing reads."""
    from orfeas.settings import explain_unknown

    for sentence in explain_unknown():
        print(f"orfeas: {sentence}", file=sys.stderr)
