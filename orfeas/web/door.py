"""The door where there are accounts: who has not logged in sees the page of the login and nothing else."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import secrets
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from orfeas.web.callers import ACCOUNT, LOGINS_PER_MINUTE, Rate, machine_of

if TYPE_CHECKING:
    import gradio as gr

    from orfeas.accounts import Accounts

KEPT_CREDENTIALS = 1000
# Probes, and metrics, which judge themselves who may read them; results, whose addresses are secrets that their owners
# may share; the login itself and what its page is made of. Gradio asks for its own cookie at "/".
_OPEN = re.compile(
    r"/|/(health|ready|metrics|favicon\.ico|robots\.txt|manifest\.json|theme\.css)|/(r|assets|static|svelte|pwa_icon)/.*"
    r"|/(login|logout)/?|/gradio_api/(login_check|app_id|startup-events|theme\.css)/?"
)
_LOGOUT = re.compile(r"/logout/?")
SENTENCE = "This app has accounts: log in on its page, or send name and password with the request (HTTP Basic)."
WRONG = "This app has no account with that name and password: check both, or ask whoever runs it."
# Gradio's cookie goes with requests from any page, and its answers may be read by any page (CORS).
_ELSEWHERE = "A page of another site cannot use this app in your name: open the app itself."
_SLOW_DOWN = "Too many wrong passwords came from your address: try again in {} seconds."


class Door:
    """ASGI middleware: 401 for whoever has neither the login's cookie nor, as curl sends them, name and password."""

    def __init__(self, app: Any, accounts: Accounts, demo: gr.Blocks):
        self.app = app
        self.accounts = accounts
        self.demo = demo
        self._tokens: OrderedDict[bytes, str] = OrderedDict()  # Gradio's, by what was sent to get them
        self._guesses = Rate(LOGINS_PER_MINUTE)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path, headers = scope["path"].removeprefix(scope.get("root_path", "")), dict(scope["headers"])
        from_elsewhere = headers.get(b"sec-fetch-site", b"same-origin") in (b"cross-site", b"same-site")
        if _OPEN.fullmatch(path) and not (from_elsewhere and _LOGOUT.fullmatch(path)):
            return await self.app(scope, receive, send)
        if account := self._account(headers.get(b"cookie", b"")):
            if from_elsewhere:
                return await _refuse(403, _ELSEWHERE)(scope, receive, send)
            scope[ACCOUNT] = account
            return await self.app(scope, receive, send)
        sentence, given = SENTENCE, headers.get(b"authorization", b"")
        if given[:6].lower() == b"basic ":
            digest = hashlib.sha256(given).digest()
            if self._tokens.get(digest) not in self.demo.app.tokens:  # a logout on the page ends all of an account's
                if wait := self._guesses.take(machine_of(scope)):
                    seconds = round(wait + 1)
                    return await _refuse(429, _SLOW_DOWN.format(seconds), {"Retry-After": str(seconds)})(
                        scope, receive, send
                    )
                await self._admit(digest, given[6:])
            if token := self._tokens.get(digest):
                cookie = f"{self._cookies()[0]}={token}".encode()
                fields = [field for field in scope["headers"] if field[0] not in (b"cookie", b"authorization")]
                scope["headers"], scope[ACCOUNT] = [*fields, (b"cookie", cookie)], self.demo.app.tokens.get(token, "")
                return await self.app(scope, receive, send)
            sentence = WRONG
        return await _refuse(401, sentence)(scope, receive, send)

    def _cookies(self) -> tuple[str, str]:
        """The names of the cookies in which Gradio looks for its token."""
        return f"access-token-{self.demo.app.cookie_id}", f"access-token-unsecure-{self.demo.app.cookie_id}"

    def _account(self, field: bytes) -> str:
        """Whose token is in the cookies; "" if nobody's."""
        try:
            cookies = SimpleCookie(field.decode("latin-1"))
        except CookieError:
            return ""
        names = (self.demo.app.tokens.get(cookies[name].value) for name in self._cookies() if name in cookies)
        return next(filter(None, names), "")

    async def _admit(self, digest: bytes, encoded: bytes) -> None:
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return
        if await asyncio.to_thread(self.accounts.check, name, password):
            token = secrets.token_urlsafe(16)
            self.demo.app.tokens[token] = name
            self._tokens[digest] = token
            while len(self._tokens) > KEPT_CREDENTIALS:
                self.demo.app.tokens.pop(self._tokens.popitem(last=False)[1], None)


def _refuse(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": sentence, "error": sentence}, status, headers=headers)
