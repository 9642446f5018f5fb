"""How many arenas malloc has: counted in processes of their own, as glibc never takes one back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from services.chassis.arenas import ARENAS

PROGRAM = """
import ctypes, os, sys, tempfile, threading
from services.chassis.arenas import share_arenas

print(share_arenas(os.environ) if sys.argv[1] == "few" else None)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
together = threading.Barrier(8)

def work():
    together.wait()
    for _ in range(2_000):
        libc.free(libc.malloc(10_000))

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
with tempfile.NamedTemporaryFile() as file:
    stream = libc.fopen(file.name.encode(), b"w")
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(file.read().count(b"<heap nr="))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")


def arenas(how: str, **variables: str) -> tuple[str, int]:
    """What was said, and how many arenas eight busy threads have."""
    environ = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"} | variables
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], env=environ, capture_output=True, text=True, check=True)
    said, count = done.stdout.split()
    return said, int(count)


def test_threads_share_a_few_arenas_and_have_more_by_default() -> None:
    said, count = arenas("few")
    assert said == "True"
    assert count <= ARENAS
    assert arenas("as many as there are threads")[1] > ARENAS


def test_who_has_set_the_variable_is_heeded() -> None:
    said, count = arenas("few", MALLOC_ARENA_MAX="5")
    assert said == "False"
    assert ARENAS < count <= 5
