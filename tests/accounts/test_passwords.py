"""Each verification calls argon2 once, and a bounded number run at a time."""

from __future__ import annotations

import gc
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import argon2
import pytest
from argon2.exceptions import HashingError, VerificationError, VerifyMismatchError

from flask_genesys_auth.accounts.passwords import PasswordHasher, is_argon2
from flask_genesys_auth.config.build import load_settings
from flask_genesys_auth.config.settings import PasswordSettings
from flask_genesys_auth.errors import ConfigurationError, HasherBusy
from tests.accounts.conftest import CHEAP
from tests.forking import FORKS, holds_in_child

DEARER = PasswordSettings(memory_kib=128, iterations=2, lanes=1)


def test_only_the_right_password_verifies(hasher: PasswordHasher) -> None:
    stored = hasher.hash("grüße: \u0301 and more")
    assert stored.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert hasher.verify(stored, "grüße: \u0301 and more")
    assert not hasher.verify(stored, "grüße: and more")
    assert hasher.hash("x") != hasher.hash("x")


def test_passwords_are_compared_in_nfc(hasher: PasswordHasher) -> None:
    assert hasher.verify(hasher.hash("u\u0308ber"), "\u00fcber")
    assert not hasher.verify(hasher.hash("uber"), "\u00fcber")


def test_every_verification_costs_one_equal_call(hasher: PasswordHasher, calls: list[Any]) -> None:
    stored = hasher.hash("right")
    assert hasher.verify(stored, "right") is True
    assert hasher.verify(stored, "wrong") is False
    assert hasher.verify(None, "right") is False
    assert hasher.verify("garbage", "right") is False
    assert len(calls) == 4
    assert len(set(map(str, calls))) == 1


def test_hash_of_old_parameters_needs_renewal(calls: list[Any]) -> None:
    former, today = PasswordHasher(CHEAP), PasswordHasher(DEARER)
    stored = former.hash("right")
    assert today.verify(stored, "right")
    assert not today.verify(stored, "wrong")
    assert len(calls) == 2
    assert today.needs_rehash(stored)
    assert not former.needs_rehash(stored)
    assert not today.needs_rehash(today.hash("right"))


def test_invalid_hash_matches_nothing_and_is_not_logged(
    hasher: PasswordHasher, calls: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    good = hasher.hash("x")
    head, salt, digest = good.rsplit("$", 2)
    garbage = [
        "", "x", "$argon2id$", "scrypt:32768:8:1$salt$geheim", good + "$more", head,
        f"{head}${salt}$", f"{head}$${digest}",
        f"{head}$!!!${digest}", f"{head}$ä${digest}", good.replace("m=64", "m=x"), good.replace("m=64", "m=99999999"),
        good.replace("t=1", "t=0"), good.replace("t=1", "t=999999"), good.replace("p=1", "p=100"),
        good.replace("argon2id", "argon2d"), good.replace("v=19", "v=y"), good + "A" * 600,
    ]  # fmt: skip
    assert hasher.verify(good, "x")
    calls.clear()
    with caplog.at_level(logging.ERROR):
        for stored in garbage:
            assert not hasher.verify(stored, "x"), stored
            assert not is_argon2(stored)
            assert not hasher.needs_rehash(stored)
    assert len(calls) == len(garbage)
    assert len(caplog.records) == len(garbage)
    assert "geheim" not in caplog.text
    assert digest not in caplog.text
    assert is_argon2(good)


@pytest.mark.parametrize(
    "most",
    [{"memory_kib": 8, "iterations": 64}, {"memory_kib": 512, "iterations": 1, "lanes": 64}],
    ids=["iterations", "lanes"],
)
def test_hash_of_the_highest_parameters_is_verified(most: dict[str, Any]) -> None:
    center: dict[str, Any] = {"acme": {"web_services": {}}}
    read = load_settings({"passwords": most, "contact_centers": center}, base_path=Path(), app_name="portal")
    hasher = PasswordHasher(read.passwords)
    stored = hasher.hash("right")
    assert hasher.verify(stored, "right")
    assert not hasher.verify(stored, "wrong")
    assert not hasher.needs_rehash(stored)


@pytest.mark.parametrize("key", ["memory_kib", "iterations", "lanes"])
def test_configuration_accepts_what_a_stored_hash_may_have(hasher: PasswordHasher, key: str) -> None:
    letter, most = {"memory_kib": ("m", 1048576), "iterations": ("t", 64), "lanes": ("p", 64)}[key]
    high = hasher.hash("x").replace("m=64", "m=524288")

    def accepted(value: int) -> bool:
        table = {"passwords": {"memory_kib": 524288, key: value}, "contact_centers": {"acme": {"web_services": {}}}}
        try:
            load_settings(table, base_path=Path(), app_name="portal")
        except ConfigurationError:
            return False
        return True

    for value in (most, most + 1):
        assert is_argon2(re.sub(rf"\b{letter}=\d+", f"{letter}={value}", high)) is accepted(value) is (value == most)


def test_creating_a_hasher_hashes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argon2.PasswordHasher, "hash", lambda *_: pytest.fail("hashed"))
    hasher = PasswordHasher(DEARER)
    assert not hasher.verify(None, "x")


def test_concurrent_hashes_are_bounded() -> None:
    hasher = PasswordHasher(PasswordSettings(memory_kib=64, iterations=1, concurrent_hashes=2), slot_timeout=0.05)
    stored = hasher.hash("x")
    with hasher.slot(), hasher.slot():
        for ask in (lambda: hasher.hash("x"), lambda: hasher.verify(stored, "x"), lambda: hasher.verify(None, "x")):
            with pytest.raises(HasherBusy) as busy:
                ask()
            assert busy.value.retry_after == 1
    assert hasher.verify(stored, "x")


def test_short_wait_gets_a_slot() -> None:
    hasher = PasswordHasher(PasswordSettings(memory_kib=64, iterations=1, concurrent_hashes=1))
    stored = hasher.hash("x")
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(hasher.verify(stored, "x"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


@pytest.mark.parametrize("fork", sorted(FORKS))
# From Python 3.12 on a fork warns where threads live: those that live here wait.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_hashes_while_parents_threads_are_busy(fork: str) -> None:
    hasher = PasswordHasher(PasswordSettings(memory_kib=64, iterations=1, concurrent_hashes=2), slot_timeout=0.05)
    stored = hasher.hash("x")
    with ThreadPoolExecutor(2) as others, hasher.slot():
        assert others.submit(hasher.verify, stored, "x").result()
        with hasher.slot():

            def check() -> bool:
                verified: list[bool] = []
                thread = threading.Thread(target=lambda: verified.append(hasher.verify(stored, "x")))
                thread.start()
                thread.join(60)
                return verified == [True] and hasher.verify(stored, "x") and not hasher.verify(stored, "y")

            assert holds_in_child(check, fork=fork)
            with pytest.raises(HasherBusy):
                hasher.verify(stored, "x")
        assert others.submit(hasher.verify, stored, "x").result()


def test_argon2_without_memory_is_busy(hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = hasher.hash("x")

    def fails(*_: object) -> bool:
        raise VerificationError("Memory allocation error")

    def makes_none(*_: object, **__: object) -> bytes:
        raise HashingError("Memory allocation error")

    monkeypatch.setattr("argon2._password_hasher.verify_secret", fails)
    monkeypatch.setattr("argon2._password_hasher.hash_secret", makes_none)
    for ask in (lambda: hasher.verify(stored, "x"), lambda: hasher.verify(None, "x"), lambda: hasher.hash("x")):
        with pytest.raises(HasherBusy, match="Memory allocation error"):
            ask()
    monkeypatch.undo()
    assert hasher.verify(stored, "x")
    assert hasher.verify(hasher.hash("x"), "x")


def hashing_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("argon2id")}


def test_other_threads_use_the_hashing_threads() -> None:
    before = hashing_threads()
    hasher = PasswordHasher(PasswordSettings(memory_kib=64, iterations=1, lanes=1, concurrent_hashes=4))
    stored = hasher.hash("x")
    assert hashing_threads() <= before
    with ThreadPoolExecutor(4) as others:
        assert list(others.map(lambda password: hasher.verify(stored, password), ["x", "y"] * 8)) == [True, False] * 8
        assert len(hashing_threads() - before) == 4


def test_hasher_is_busy_while_the_process_ends() -> None:
    program = """
import threading
from flask_genesys_auth.accounts.passwords import PasswordHasher
from flask_genesys_auth.config.settings import PasswordSettings
from flask_genesys_auth.errors import HasherBusy

hasher = PasswordHasher(PasswordSettings(memory_kib=64, iterations=1))
stored = hasher.hash("x")

def work():
    assert hasher.verify(stored, "x")
    verified.set()
    threading.main_thread().join()
    try:
        while True:
            hasher.verify(stored, "x")
    except HasherBusy as error:
        print(error.finding)

verified = threading.Event()
threading.Thread(target=work).start()
verified.wait()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.stdout.startswith("no password can be hashed: cannot schedule")


def test_no_password_waits_without_threads(hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = hasher.hash("x")
    with ThreadPoolExecutor(1) as other:
        assert not other.submit(bool).result()  # so that its thread is there
        for error in (RuntimeError("can't start new thread"), MemoryError("none left")):
            begun: list[threading.Thread] = []
            monkeypatch.setattr(threading.Thread, "start", _only_one_starts(threading.Thread.start, begun, error))
            with pytest.raises(HasherBusy, match=f"no password can be hashed: {error}"):
                other.submit(hasher.verify, stored, "x").result()
            monkeypatch.undo()
            # The thread that started does not wait forever for the others.
            (alone,) = begun
            alone.join(30)
            assert not alone.is_alive()
        assert other.submit(hasher.verify, stored, "x").result()


def test_wrong_passwords_are_not_kept_alive(hasher: PasswordHasher) -> None:
    stored = hasher.hash("right")
    with ThreadPoolExecutor(1) as other:
        assert not other.submit(hasher.verify, stored, "wrong").result()
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                assert not other.submit(hasher.verify, stored, "wrong").result()
            # The hashing thread may hold the last exception a moment longer.
            end = time.monotonic() + 10
            while any(type(one) is VerifyMismatchError for one in gc.get_objects()):
                assert time.monotonic() < end
                time.sleep(0.05)
        finally:
            gc.enable()


def _only_one_starts(
    start: Callable[[threading.Thread], None], begun: list[threading.Thread], error: BaseException
) -> Callable[[threading.Thread], None]:
    """Return a ``Thread.start`` that starts only the first hashing thread, and records it."""

    def started(thread: threading.Thread) -> None:
        if thread.name.startswith("argon2id"):
            if begun:
                raise error
            begun.append(thread)
        start(thread)

    return started
