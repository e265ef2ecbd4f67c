"""The memory of hashing is bounded by the concurrent hashes, not by the threads of a process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

MEASURED = """
import argon2, json, re, sys, threading
from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.config.settings import PasswordSettings
from flask_genesys_auth.errors import HasherBusy

hasher = PasswordHasher(PasswordSettings(memory_kib=16384, iterations=1, concurrent_hashes=2))
stored = hasher.hash("right")
verify, turns = hasher.verify, threading.BoundedSemaphore(8)
if sys.argv[1] == "whoever asks":
    verify, turns = argon2.PasswordHasher().verify, threading.BoundedSemaphore(2)

def resident(field):
    found = re.search(field + r":\\s+(\\d+) kB", open("/proc/self/status").read())
    return int(found[1]) / 1024

idle, gate = resident("VmRSS"), threading.Barrier(9)

def log_in():
    gate.wait()
    for _ in range(3):
        while not verified():
            pass
    gate.wait()

def verified():
    try:
        with turns:
            return verify(stored, "right")
    except HasherBusy:
        return False

threads = [threading.Thread(target=log_in) for _ in range(8)]
for thread in threads:
    thread.start()
gate.wait()
gate.wait()
print(json.dumps(resident("VmHWM") - idle))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_request_threads() -> None:
    assert measured("own threads") < 2 * 16 + 8
    # The control: glibc's malloc keeps the memory of each thread.
    if measured("whoever asks") < 4 * 16:
        pytest.skip("this system's malloc keeps nothing")


def measured(hashing: str) -> float:
    """Return the MiB above idle after 8 threads logged in, two at a time, with hashes of 16 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, hashing], capture_output=True, text=True, check=True, timeout=120
    )
    return float(json.loads(done.stdout))
