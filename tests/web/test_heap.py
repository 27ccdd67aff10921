"""What the C library keeps, asked of itself, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

THREADS = 12
PROGRAM = f"""
import ctypes, sys, threading
from orfeas.web.heap import bound_arenas, give_back

if sys.argv[1] == "bound":
    bound_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
together = threading.Barrier({THREADS})
pieces = []

def work():
    together.wait()
    pieces.extend(libc.malloc(100_000) for _ in range(200))
    together.wait()

threads = [threading.Thread(target=work) for _ in range({THREADS})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
rss = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
for piece in pieces:
    ctypes.memset(piece, 1, 100_000)
used = rss()
for piece in pieces[:-1]:
    libc.free(piece)
freed = rss()
give_back()
libc.fopen.restype, libc.malloc_info.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
print(used - freed, freed - rss())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc has arenas")
def test_threads_share_two_arenas_and_what_is_free_is_given_back(tmp_path):
    arenas, freed = {}, {}
    for way in ("free", "bound"):
        information = tmp_path / way
        command = [sys.executable, "-c", PROGRAM, way, str(information)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        arenas[way] = len(re.findall("<heap nr", information.read_text()))
        freed[way] = [int(word) / 1e6 for word in done.stdout.split()]
    assert arenas["free"] > 2
    assert arenas["bound"] == 2
    by_itself, given_back = freed["bound"]
    assert given_back > 20
    assert by_itself + given_back > 0.9 * THREADS * 200 * 0.1
