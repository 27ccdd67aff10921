"""``python -m tests.web.observed LOG``: the program; each attempt of its Python code to reach anyone is written to LOG.

An audit hook sees every name that is looked up and every connection that is begun, also those that fail or last a
millisecond, which a look at the list of sockets would miss.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

WATCHED = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")


def main() -> None:
    log = open(sys.argv[1], "a", buffering=1)  # noqa: SIM115 (open as long as the program runs)

    def hook(event: str, arguments: tuple) -> None:
        if event in WATCHED:
            target = arguments[1] if event.startswith(("socket.connect", "socket.send")) else arguments[0]
            host = target[0] if isinstance(target, tuple) else target
            print(event, host, file=log)

    sys.addaudithook(hook)
    sys.argv = ["app.py"]
    runpy.run_path(str(Path(__file__).parents[2] / "app.py"), run_name="__main__")


if __name__ == "__main__":
    main()
