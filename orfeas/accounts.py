"""Who may use the app: accounts, each a name and a hash of its password, in ``ORFEAS_AUTH``."""

from __future__ import annotations

import base64
import binascii
import getpass
import hashlib
import hmac
import re
import secrets
import sys
from collections.abc import Mapping

from orfeas.errors import BadRequest

# 32 MiB and about a tenth of a second a guess (OWASP Password Storage Cheat Sheet, scrypt).
LOG2_N, R, P = 15, 8, 3
LEAST_LENGTH = 8
_NAME = re.compile(r"[\w.@-]{1,64}", flags=re.ASCII)
# Dots and no dollar signs, which compose files and shells take for variables.
_HASH = re.compile(r"scrypt\.(\d{2})\.(\d{1,2})\.(\d{1,2})\.([\w-]{22})\.([\w-]{43})", flags=re.ASCII)


def hash_password(password: str) -> str:
    """``scrypt.15.8.3.SALT.KEY``: log2 of N, r, p, and salt and key in URL-safe base64. Raises `BadRequest`."""
    if len(password) < LEAST_LENGTH:
        raise BadRequest(f"The password is too short: use {LEAST_LENGTH} characters or more.", "bad_password")
    salt = secrets.token_bytes(16)
    return f"scrypt.{LOG2_N}.{R}.{P}.{_encode(salt)}.{_encode(_derive(password, salt, LOG2_N, R, P))}"


class Accounts:
    """Names and hashes. ``text``: entries ``name:hash`` with commas or spaces between them. Raises ValueError."""

    def __init__(self, text: str):
        entries = filter(None, re.split(r"[,\s]+", text))
        self._hashes: Mapping[str, tuple[bytes, bytes, int, int, int]] = dict(map(_read, entries))
        self._nobody = secrets.token_bytes(16), secrets.token_bytes(32), LOG2_N, R, P

    def check(self, name: str, password: str) -> bool:
        """Whether the password is that account's. A name that is not there takes as long as one that is."""
        salt, key, *costs = self._hashes.get(name, self._nobody)
        return hmac.compare_digest(_derive(password, salt, *costs), key) and name in self._hashes


def add_hash_password_parser(commands) -> None:
    """Add the command ``hash-password`` to an argparse collection of commands."""
    parser = commands.add_parser("hash-password", help="make an entry for ORFEAS_AUTH")
    parser.add_argument("name", help="the account's name: letters, digits, dots, dashes, underscores, @")
    parser.set_defaults(func=_run)


def _run(arguments) -> int:
    if not _NAME.fullmatch(arguments.name):
        raise BadRequest("The name cannot be used: take letters, digits, dots, dashes, underscores and @.", "bad_name")
    asks = sys.stdin.isatty()
    password = getpass.getpass("Password: ") if asks else sys.stdin.readline().rstrip("\n")
    if asks and getpass.getpass("Once more: ") != password:
        raise BadRequest("The two passwords differ: try again.", "bad_password")
    print(f"{arguments.name}:{hash_password(password)}")
    return 0


def _read(entry: str) -> tuple[str, tuple[bytes, bytes, int, int, int]]:
    name, _, rest = entry.partition(":")
    found = _HASH.fullmatch(rest)
    if not _NAME.fullmatch(name) or not found:
        raise ValueError("each entry must be name:hash, as `python -m orfeas hash-password NAME` prints it")
    log2_n, r, p = (int(found[k]) for k in (1, 2, 3))
    if not (10 <= log2_n <= 20 and 1 <= r <= 32 and 1 <= p <= 16):
        raise ValueError("the costs of a hash are out of range: make it with `python -m orfeas hash-password NAME`")
    return name, (_decode(found[4]), _decode(found[5]), log2_n, r, p)


def _derive(password: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    most = 128 * r * ((1 << log2_n) + p + 2) + (1 << 20)
    return hashlib.scrypt(password.encode(errors="replace"), salt=salt, n=1 << log2_n, r=r, p=p, maxmem=most, dklen=32)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("a hash is damaged: make it with `python -m orfeas hash-password NAME`") from error
