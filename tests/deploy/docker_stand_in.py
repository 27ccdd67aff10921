"""Stands in for the docker command line: keeps containers in a file, writes down what it was told, starts nothing.

Of a container it knows what `docker inspect` and Compose go by: its state, and how often it was started again. A tag
says what becomes of its containers: with "broken" they end at once, time and again; with "unstartable" they are made,
but the runtime refuses to start them. A file WORD.signal beside the state is the number of the signal that whoever asks
gets once WORD is done, as from Ctrl-C or a terminal that is closed.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path

folder = Path(os.environ["STAND_IN"])
file = folder / "state.json"
state = json.loads(file.read_text()) if file.is_file() else {"containers": [], "made": 0}
words = sys.argv[1:]
with (folder / "told.jsonl").open("a") as log:
    log.write(json.dumps([os.environ.get("ORFEAS_TAG", ""), *words]) + "\n")
routes = [Path("deploy/upstreams", name) for name in ("newest", "oldest")]  # as the proxy finds them at this moment
with (folder / "routes.jsonl").open("a") as log:
    log.write(json.dumps([words, *(path.read_text() for path in routes if path.is_file())]) + "\n")


def find(name: str) -> dict:
    return next(entry for entry in state["containers"] if name in (entry["id"], entry["name"]))


def after(option: str) -> str:
    return words[words.index(option) + 1]


def is_running(entry: dict) -> bool:
    """As .State.Running: a container that waits to be started again counts."""
    return entry["state"] in ("running", "restarting")


def boot(entry: dict) -> str:
    """Start a container; why it could not be."""
    if "unstartable" in entry["tag"]:
        return "Error response from daemon: nvidia-container-cli: initialization error"
    entry["state"] = "restarting" if "broken" in entry["tag"] else "running"
    entry["restarts"] = int("broken" in entry["tag"])
    return ""


status = 0
match words:
    case ["compose", *_] if (folder / "no-compose").exists():  # as Docker says it without the plugin
        sys.exit(
            "docker: 'compose' is not a docker command." if "-f" not in words else "unknown shorthand flag: 'f' in -f"
        )
    case ["compose", "version"]:
        print("Docker Compose version v2.24.5")
    case ["compose", "-f", "docker-compose.production.yml", "ps", *options, "app"]:
        wanted = {word for option, word in itertools.pairwise(options) if option == "--status"}
        shown = [entry for entry in state["containers"] if "--all" in options or wanted or is_running(entry)]
        print("\n".join(entry["id"] for entry in shown if not wanted or entry["state"] in wanted))
    case ["compose", "-f", "docker-compose.production.yml", "up", *_]:
        # containers in whatever state count; then those that do not run are started as they are (--no-recreate)
        while len(state["containers"]) < int(after("--scale").removeprefix("app=")):
            state["made"] += 1
            made = {"id": f"c{state['made']}", "name": f"orfeas-app-{state['made']}", "tag": os.environ["ORFEAS_TAG"]}
            state["containers"].append({**made, "state": "created", "restarts": 0})
        refused = [why for entry in state["containers"] if not is_running(entry) and (why := boot(entry))]
        if refused:
            print(refused[0], file=sys.stderr)
            status = 1
    case ["compose", "-f", "docker-compose.production.yml", "run", *_]:
        if "backup" in words:
            print("an archive")
        if "restore" in words and sys.stdin.read() != "an archive\n":
            status = 2
    case ["compose", "-f", "docker-compose.production.yml", "build", *_]:
        pass
    case ["inspect", "--format", wanted, name]:
        entry = find(name)
        facts = {
            "{{.State.Running}}": str(is_running(entry)).lower(),
            "{{.State.Restarting}}": str(entry["state"] == "restarting").lower(),
            "{{.RestartCount}}": str(entry["restarts"]),
            "{{.Name}}": f"/{entry['name']}",
            "{{.Config.Image}}": f"orfeas:{entry['tag']}",
        }
        print(*(facts[field] for field in wanted.split()))
    case ["image", "inspect", image]:
        status = 0 if (folder / image.split(":")[1]).exists() else 1
    case ["exec", name, "python", "-c", _]:
        status = 0 if find(name)["state"] == "running" else 1
    case ["logs", *_, name]:
        print(f"{find(name)['tag']} is out of luck")
    case ["stop", "-t", _, name]:
        find(name)["state"] = "exited"
    case ["rm", name] if not is_running(find(name)):
        state["containers"].remove(find(name))
    case _:
        sys.exit(f"the stand-in does not know, or refuses: docker {' '.join(words)}")
file.write_text(json.dumps(state))
for signalled in folder.glob("*.signal"):
    if signalled.stem in words:
        number = int(signalled.read_text())
        signalled.unlink()
        os.kill(os.getppid(), number)
sys.exit(status)
