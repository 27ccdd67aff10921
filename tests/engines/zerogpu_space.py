"""A ZeroGPU Space, as far as a machine without a GPU can be one: run by test_zerogpu.py in a process of its own.

The package `spaces` is the real one and in ZeroGPU mode: its decorator, its forked workers, its pickling, its errors.
Stood in for are the service that lends GPUs (an HTTP server here) and its disguise of CUDA, for which PyTorch would
have to be built with CUDA: it is imported while PyTorch cannot be. Prints one JSON line.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

FOLDER = Path(sys.argv[1])
CALLS: list[tuple[str, dict]] = []
QUOTA = {"left": True}
STOPS = []  # the events by which the package's workers, forked later, are told to stop


class Lender(BaseHTTPRequestHandler):
    """The service's four addresses."""

    def do_POST(self):
        url = urlsplit(self.path)
        CALLS.append((url.path, {key: values[0] for key, values in parse_qs(url.query).items()}))
        lent = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": f"token-{len(CALLS)}"}
        used_up = url.path == "/schedule" and not QUOTA["left"]
        body = json.dumps({"left": 5, "wait": 3600} if used_up else lent).encode()
        self.send_response(429 if used_up else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def import_spaces():
    lender = ThreadingHTTPServer(("127.0.0.1", 0), Lender)
    threading.Thread(target=lender.serve_forever, daemon=True).start()
    cgroup = FOLDER / "cgroup"
    cgroup.write_text("0::/the-space\n")
    os.environ |= {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{lender.server_port}",
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(cgroup),
    }
    sys.modules["torch"] = None
    from orfeas.engines import zerogpu

    zerogpu.prepare()
    del sys.modules["torch"]
    from spaces.zero import wrappers

    event = wrappers.Event
    wrappers.Event = lambda **options: STOPS.append(event(**options)) or STOPS[-1]
    return sys.modules["spaces"]


def main() -> dict:
    spaces = import_spaces()
    import numpy as np
    import torch

    from orfeas.cutout import Cutout
    from orfeas.engines.hunyuan3d.engine import Hunyuan3DEngine
    from orfeas.engines.zerogpu import ZeroGPUEngine
    from orfeas.errors import OrfeasError
    from orfeas.library import Library
    from orfeas.request import GenerationRequest, Quality
    from orfeas.settings import Settings
    from orfeas.studio import Studio
    from tests.drawings import draw
    from tests.engines.hunyuan3d.blob import write_blob_weights
    from tests.engines.hunyuan3d.tiny import tiny_config

    class Watched(Hunyuan3DEngine):
        """Leaves a line in a file at each step, and fails as it is told to."""

        def shape(self, cutout, quality, seed):
            if seed == 99:
                raise ZeroDivisionError("a bug")
            if seed == 98:
                os._exit(3)  # as when the GPU is taken back
            for event in super().shape(cutout, quality, seed):
                with (FOLDER / f"steps-{seed}").open("a") as file:
                    file.write(f"{os.getpid()}\n")
                yield event
                if seed == 4 and event.message.startswith("Diffusion step 3 "):
                    STOPS[-1].wait(120)
                    (FOLDER / "steps-4").unlink()  # the steps from here on are counted

    qualities = {"draft": Quality(20, 6, 700), "standard": Quality(20, 20_000, 700)}
    plain = Watched(write_blob_weights(FOLDER / "weights"), config=tiny_config(), device="cpu", reason="asked for")
    lent = ZeroGPUEngine(plain, spaces.GPU)
    settings = Settings(_env_file=None, engine="hunyuan3d", device="cpu", data_dir=FOLDER / "data")
    studio = Studio(settings, lent, Library(settings.data_dir), qualities)
    studio.load()
    seen: dict = {"pid": os.getpid(), "reason": lent.reason, "health": lent.health()}

    def request(seed: int, **options) -> GenerationRequest:
        return GenerationRequest(draw("blob"), **{"quality": "draft", "seed": seed, "format": "ply", **options})

    def steps_of(seed: int) -> list[int]:
        return [int(line) for line in (FOLDER / f"steps-{seed}").read_text().split()]

    *progress, result = studio.run(request(3))
    seen["messages"] = [event.message for event in progress]
    seen["fractions"] = [event.fraction for event in progress]
    seen["workers"] = sorted(set(steps_of(3)))
    seen["facts"] = {key: result.facts[key] for key in ("engine", "diffusion_steps", "device")}

    running = studio.run(request(4, quality="standard"))
    for event in running:
        if event.message.startswith("Diffusion step 3 "):
            break
    running.close()
    seen["steps_after_stop"] = len(steps_of(4))
    seen["queue_after_stop"] = studio.health()["queue"]

    def fail(request_: GenerationRequest) -> dict:
        try:
            for _ in studio.run(request_):
                pass
        except OrfeasError as error:
            return {"kind": type(error).__name__, "code": error.code, "sentence": str(error)}
        return {}

    try:
        list(lent.shape(Cutout(np.zeros((20, 20, 4), np.uint8), "alpha", "empty", 0.0, False), qualities["draft"], 5))
    except OrfeasError as error:
        seen["empty"] = {"kind": type(error).__name__, "code": error.code, "sentence": str(error)}
    seen["bug"] = fail(request(99))
    seen["taken_back"] = fail(request(98))
    QUOTA["left"] = False
    seen["quota"] = fail(request(6))
    QUOTA["left"] = True
    *_, after = studio.run(request(3))  # whatever happened, the next job is lent a GPU
    seen["again_the_same"] = after.files["model"].read_bytes() == result.files["model"].read_bytes()
    torch.set_num_threads(1)  # as in a forked process: sums depend on it
    *_, undecorated = Studio(settings, plain, studio.library, qualities).run(request(3))
    seen["undecorated_the_same"] = undecorated.files["model"].read_bytes() == result.files["model"].read_bytes()
    seen["latents_the_same"] = undecorated.files["latent"].read_bytes() == result.files["latent"].read_bytes()
    seen["calls"] = CALLS
    return seen


if __name__ == "__main__":
    print(json.dumps(main()), flush=True)
    for worker in multiprocessing.active_children():  # the package's, which wait for more
        worker.kill()
        worker.join()
    os._exit(0)
