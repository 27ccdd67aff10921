"""A command line's parser, whose errors are one sentence each: what is wrong, and where the options are told."""

from __future__ import annotations

import argparse
import re
from difflib import get_close_matches
from typing import NoReturn

from orfeas.errors import BadRequest

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
