"""Which processes use a data folder: threads that come at once, others that look meanwhile, the dead."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from orfeas.instance import Instance


def test_threads_may_announce_at_once(tmp_path):
    for round_ in range(50):
        instance, start = Instance(tmp_path / str(round_)), threading.Barrier(4)

        def announce(instance=instance, start=start):
            start.wait()
            instance.announce()

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(announce) for _ in range(4)]:
                done.result()
        assert Instance(instance.folder).is_alive(instance.name)
        instance.leave()
        assert not Instance(instance.folder).is_alive(instance.name)


def test_another_that_clears_up_meanwhile_takes_nobody_for_dead(tmp_path):
    """It locks and removes the files of the dead, and one that has just begun looks like them for a moment."""
    over = threading.Event()

    def clear_up():
        other = Instance(tmp_path)
        while not over.is_set():
            other.forget_dead()

    with ThreadPoolExecutor(1) as pool:
        clearing = pool.submit(clear_up)
        try:
            for _ in range(200):
                instance = Instance(tmp_path)
                instance.announce()
                assert (tmp_path / f"{instance.name}.lock").exists()
                assert Instance(tmp_path).is_alive(instance.name)
                instance.leave()
        finally:
            over.set()
        clearing.result()


def test_a_process_that_died_is_forgotten_and_one_that_lives_is_not(tmp_path):
    program = (
        "import sys; from pathlib import Path; from orfeas.instance import Instance\n"
        "i = Instance(Path(sys.argv[1])); i.announce(); print(i.name, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        name = process.stdout.readline().strip()
        here = Instance(tmp_path)
        here.announce()
        here.forget_dead()
        assert here.is_alive(name)
        process.kill()
        process.wait()
        assert not here.is_alive(name)
        here.forget_dead()
    assert [file.stem for file in tmp_path.glob("*.lock")] == [here.name]
    here.leave()
