"""Stands in for the docker command line: keeps containers in a file, writes down what it was told, starts nothing."""

from __future__ import annotations

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


status = 0
match words:
    case ["compose", *_] if (folder / "no-compose").exists():  # as Docker says it without the plugin
        sys.exit(
            "docker: 'compose' is not a docker command." if "-f" not in words else "unknown shorthand flag: 'f' in -f"
        )
    case ["compose", "version"]:
        print("Docker Compose version v2.24.5")
    case ["compose", "-f", "docker-compose.production.yml", "ps", *_]:
        print("\n".join(entry["id"] for entry in state["containers"] if entry["running"]))
    case ["compose", "-f", "docker-compose.production.yml", "up", *_]:
        while len(state["containers"]) < int(after("--scale").removeprefix("app=")):
            state["made"] += 1
            made = {"id": f"c{state['made']}", "name": f"orfeas-app-{state['made']}", "tag": os.environ["ORFEAS_TAG"]}
            state["containers"].append({**made, "running": "broken" not in made["tag"]})
            if "broken" in made["tag"]:  # Compose reports it as started; it ends at once
                state["containers"][-1]["running"] = True
                state["containers"][-1]["dies"] = True
    case ["compose", "-f", "docker-compose.production.yml", "run", *_]:
        if "backup" in words:
            print("an archive")
        if "restore" in words and sys.stdin.read() != "an archive\n":
            status = 2
    case ["compose", "-f", "docker-compose.production.yml", "build", *_]:
        pass
    case ["inspect", "--format", wanted, name]:
        entry = find(name)
        if "State" in wanted:
            print("false" if entry.get("dies") else "true")
        else:
            print(f"/{entry['name']} orfeas:{entry['tag']}")
    case ["image", "inspect", image]:
        status = 0 if (folder / image.split(":")[1]).exists() else 1
    case ["exec", name, "python", "-c", _]:
        status = 0 if find(name)["running"] else 1
    case ["logs", *_]:
        print("out of luck")
    case ["stop", "-t", _, name]:
        find(name)["running"] = False
    case ["rm", name]:
        state["containers"].remove(find(name))
    case _:
        sys.exit(f"the stand-in does not know: docker {' '.join(words)}")
file.write_text(json.dumps(state))
sys.exit(status)
