"""Hashes are those of argon2-cffi, and their memory is bounded by how many may hash at once, not by the threads."""

from __future__ import annotations

import json
import subprocess
import sys

import argon2
import pytest
from argon2 import Parameters, Type, low_level
from argon2.exceptions import HashingError

from flask_genesys_auth.accounts import argon2id as room
from flask_genesys_auth.accounts.argon2id import argon2id
from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.config.values import PasswordSettings

MEASURED = """
import json, re, sys, threading
from flask_genesys_auth.accounts import argon2id as room
from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.config.values import PasswordSettings

room._can_map = lambda: sys.argv[1] == "own"
hasher = PasswordHasher(PasswordSettings(memory_kib=16384, iterations=1, concurrent_hashes=2))
stored = hasher.hash("right")

def resident(field):
    found = re.search(field + r":\\s+(\\d+) kB", open("/proc/self/status").read())
    return int(found[1]) / 1024

idle, gate = resident("VmRSS"), threading.Barrier(9)

def log_in():
    gate.wait()
    while not verified():
        pass
    gate.wait()

def verified():
    try:
        return hasher.verify(stored, "right")
    except Exception:
        return False

threads = [threading.Thread(target=log_in) for _ in range(8)]
for thread in threads:
    thread.start()
gate.wait()
gate.wait()
print(json.dumps({"peak": resident("VmHWM") - idle, "after": resident("VmRSS") - idle}))
"""


def parameters(**changes: int) -> Parameters:
    """Return cheap ones."""
    chosen = {"version": 19, "salt_len": 16, "hash_len": 32, "time_cost": 1, "memory_cost": 64, "parallelism": 1}
    return Parameters(type=Type.ID, **{**chosen, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        *({}, {"memory_cost": 67}, {"memory_cost": 8192}, {"time_cost": 3}, {"parallelism": 4}),
        *({"version": 16}, {"hash_len": 12}, {"hash_len": 64}),
    ],
)
def test_the_tag_is_the_librarys(changes: dict[str, int]) -> None:
    chosen = parameters(**changes)
    assert room._can_map()
    for secret, salt in ((b"", bytes(8)), (b"p\0w", bytes(range(16))), (b"x" * 1024, b"salt" * 12)):
        expected = low_level.hash_secret_raw(
            secret,
            salt,
            chosen.time_cost,
            chosen.memory_cost,
            chosen.parallelism,
            chosen.hash_len,
            Type.ID,
            chosen.version,
        )
        assert argon2id(secret, salt, chosen) == expected


def test_who_reads_our_hashes_with_the_library_finds_them_good_and_the_other_way_round() -> None:
    hasher = PasswordHasher(PasswordSettings(memory_kib=64, iterations=2, lanes=2))
    library = argon2.PasswordHasher(time_cost=2, memory_cost=64, parallelism=2)
    assert library.verify(hasher.hash("right"), "right")
    assert hasher.verify(library.hash("right"), "right")
    assert not hasher.verify(library.hash("wrong"), "right")
    assert not library.check_needs_rehash(hasher.hash("right"))
    assert not hasher.needs_rehash(library.hash("right"))
    with pytest.raises(argon2.exceptions.VerifyMismatchError):
        library.verify(hasher.hash("right"), "wrong")


def test_where_our_memory_is_not_taken_the_library_hashes_in_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = PasswordHasher(PasswordSettings(memory_kib=64, iterations=1)).hash("right")
    monkeypatch.setattr(room, "_callbacks", _forbidden)
    room._can_map.cache_clear()
    try:
        assert not room._can_map()
        hasher = PasswordHasher(PasswordSettings(memory_kib=64, iterations=1))
        assert hasher.verify(stored, "right")
        assert not hasher.verify(stored, "wrong")
    finally:
        room._can_map.cache_clear()


def test_what_libargon2_refuses_is_an_error() -> None:
    with pytest.raises(HashingError, match="Salt is too short"):
        argon2id(b"secret", b"short", parameters())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_threads_that_have_hashed() -> None:
    assert measured("own")["peak"] < 2 * 16 + 8
    assert measured("own")["after"] < 8
    # The control: what malloc does with it, where it is glibc's.
    if measured("malloc")["peak"] < 4 * 16:
        pytest.skip("this system's malloc keeps nothing")


def measured(memory: str) -> dict[str, float]:
    """Return the MiB above idle when 8 threads have logged in, two at a time, of 16 MiB each."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, memory], capture_output=True, text=True, check=True, timeout=120
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _forbidden() -> None:
    raise MemoryError("no callbacks here")
