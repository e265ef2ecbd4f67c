"""Password hashing with argon2id: one hash of equal cost for each verification, and a bounded number at a time."""

from __future__ import annotations

import base64
import os
import secrets
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Barrier, BoundedSemaphore, Lock, current_thread, main_thread
from time import perf_counter
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import argon2
from argon2.exceptions import HashingError, InvalidHashError, VerificationError, VerifyMismatchError

from ..checks import Check
from ..config.settings import MOST_ITERATIONS, MOST_LANES, MOST_MEMORY_KIB
from ..errors import HasherBusy
from ..events import Event, log_event
from ..processes import PerProcess

if TYPE_CHECKING:
    from ..config.settings import PasswordSettings

SLOT_TIMEOUT = 0.5
"""Seconds that a verification waits for a free slot."""
START_TIMEOUT = 10.0
"""Seconds that starting threads wait for one another."""
LONGEST = 512
SHORTEST_SALT = 8
SHORTEST_DIGEST = 12

# OWASP's Password Storage Cheat Sheet: argon2id with at least one of these pairs, memory in KiB and iterations.
OWASP = ((47104, 1), (19456, 2), (12288, 3), (9216, 4), (7168, 5))
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
_MOST_OF_MEMORY = 0.25

P = ParamSpec("P")
R = TypeVar("R")


class PasswordHasher:
    """Hashes and verifies with argon2id (RFC 9106), in a few threads of its own.

    glibc's malloc keeps the memory of each thread that has hashed. Without threads of its own, a process would come to
    hold ``memory_kib`` for each request thread, however few may hash at once.

    :param settings: its parameters, and how many hashes may run in this process at once.
    :param slot_timeout: seconds that a verification waits for a free slot.
    """

    def __init__(self, settings: PasswordSettings, *, slot_timeout: float = SLOT_TIMEOUT) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=settings.iterations, memory_cost=settings.memory_kib, parallelism=settings.lanes
        )
        # Verifying a random digest takes as long as verifying a real one; making it takes no memory_kib at the start.
        salt, digest = (base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (16, 32))
        costs = f"m={settings.memory_kib},t={settings.iterations},p={settings.lanes}"
        self._dummy = f"$argon2id$v=19${costs}${salt}${digest}"
        self._workers = PerProcess(partial(_Workers, settings.concurrent_hashes, slot_timeout))

    def hash(self, password: str) -> str:
        """Return the PHC string of this password with a new salt.

        :raises HasherBusy: if too many passwords are being hashed.
        """
        return self._workers.get().run(self._argon2.hash, _bytes(password))

    def verify(self, stored: str | None, password: str) -> bool:
        """Return whether this is the password; always calls argon2 once, so that the time shows nothing.

        :param stored: a PHC string, or ``None`` without an account or a password.
        :raises HasherBusy: if too many passwords are being hashed.
        """
        known = stored if stored is not None and is_argon2(stored) else None
        if stored is not None and known is None:
            log_event(
                Event.PASSWORD_HASH_UNREADABLE,
                detail="a stored password hash is not an argon2id hash: set a new password for its account",
            )
        try:
            self._workers.get().run(self._argon2.verify, known or self._dummy, _bytes(password))
        except VerifyMismatchError:
            return False
        return known is not None

    def needs_rehash(self, stored: str) -> bool:
        """Return whether this hash was made with other parameters than today's."""
        return is_argon2(stored) and self._argon2.check_needs_rehash(stored)

    def slot(self) -> AbstractContextManager[None]:
        """Wait briefly for a slot to hash.

        :raises HasherBusy: if none becomes free.
        """
        return self._workers.get().slot()


class _Workers:
    """The threads of one process that hash, and the slots to use them."""

    def __init__(self, concurrent: int, slot_timeout: float) -> None:
        self._concurrent = concurrent
        self._slot_timeout = slot_timeout
        self._slots = BoundedSemaphore(concurrent)
        self._starting = Lock()
        self._threads: ThreadPoolExecutor | None = None

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a slot to hash.

        :raises HasherBusy: if none becomes free in time.
        """
        if not self._slots.acquire(timeout=self._slot_timeout):
            finding = f"{self._concurrent} passwords are being hashed already (passwords.concurrent_hashes)"
            raise HasherBusy(finding, retry_after=1)
        try:
            yield
        finally:
            self._slots.release()

    def run(self, hashed: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Hash when a slot is free.

        :raises HasherBusy: if there is no slot in time, no thread or no memory.
        """
        with self.slot():
            try:
                if current_thread() is main_thread():
                    # Ctrl-C interrupts this thread, so it must not be the one that starts the others.
                    return hashed(*arguments, **named)
                future = self._started().submit(hashed, *arguments, **named)
                try:
                    return future.result()
                finally:
                    # Otherwise an exception would keep the future alive, and the future the password.
                    del future
            except VerifyMismatchError:
                raise
            except (HashingError, VerificationError) as error:
                raise HasherBusy(f"argon2 could not hash a password: {error}", retry_after=1) from None
            except (RuntimeError, MemoryError) as error:
                # The system refuses more threads, or the process is ending.
                raise HasherBusy(f"no password can be hashed: {error}", retry_after=1) from None

    def _started(self) -> ThreadPoolExecutor:
        """Return the threads, all of them started: no password waits for a thread that cannot start."""
        with self._starting:
            if self._threads is None:
                threads = ThreadPoolExecutor(self._concurrent, thread_name_prefix="argon2id")
                gate = Barrier(self._concurrent, timeout=START_TIMEOUT)
                try:
                    for _ in range(self._concurrent):
                        threads.submit(gate.wait)
                except BaseException:
                    # Threads that have started must not wait for the others forever.
                    gate.abort()
                    threads.shutdown(wait=False)
                    raise
                self._threads = threads
            return self._threads


def is_argon2(stored: str) -> bool:
    """Return whether a text is the PHC string of an argon2id hash within the bounds on work and size."""
    if len(stored) > LONGEST or not stored.isascii():
        return False
    try:
        parameters = argon2.extract_parameters(stored)
        salt, digest = (_decoded(part) for part in stored.split("$")[-2:])
    except (InvalidHashError, ValueError, KeyError):
        return False
    return (
        parameters.type is argon2.Type.ID
        and 1 <= parameters.time_cost <= MOST_ITERATIONS
        and 1 <= parameters.parallelism <= MOST_LANES
        and 8 * parameters.parallelism <= parameters.memory_cost <= MOST_MEMORY_KIB
        and len(salt) >= SHORTEST_SALT
        and len(digest) >= SHORTEST_DIGEST
    )


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _bytes(password: str) -> bytes:
    """Return the password as it is hashed: in NFC (RFC 8265 4.2), as UTF-8."""
    return unicodedata.normalize("NFC", password).encode("utf-8")


@dataclass(frozen=True, slots=True)
class ForeignHashes:
    """Verifies password hashes of another format than argon2's.

    :param verify: takes a stored hash and a password, such as ``werkzeug.security.check_password_hash``.
    :param dummy: a hash of that format with the application's parameters. It is verified for unknown users and for
        accounts without a password, so that they take as long as a wrong password.
    """

    verify: Callable[[str, str], bool]
    dummy: str = field(repr=False)

    def check(self, stored: str | None, password: str) -> bool:
        """Return whether this is the password; always calls ``verify`` once.

        A stored hash that ``verify`` cannot read (``ValueError``, ``TypeError``) matches no password.
        """
        try:
            same = self.verify(self.dummy if stored is None else stored, password)
        except (ValueError, TypeError):
            log_event(
                Event.PASSWORD_HASH_UNREADABLE,
                detail="a stored password hash is not of the application's format: set a new password for its account",
            )
            return False
        return bool(same) and stored is not None


def password_checks(hasher: PasswordHasher, settings: PasswordSettings) -> Iterator[Check]:
    """Yield whether a hash costs enough, how long it takes, and whether the memory suffices."""
    began = perf_counter()
    hasher.hash("a password to measure with")
    seconds = perf_counter() - began
    cost = f"argon2id with {settings.memory_kib} KiB, iterations {settings.iterations}, lanes {settings.lanes}"
    if any(settings.memory_kib >= memory and settings.iterations >= rounds for memory, rounds in OWASP):
        yield Check("passwords.cost", "ok", f"{cost}: {1000 * seconds:.0f} ms")
    else:
        finding = f"{cost} is less than OWASP's minimum: stolen hashes are easier to guess"
        advice = "remove memory_kib, iterations and lanes: the defaults are enough"
        yield Check("passwords.cost", "warning", finding, advice)
    yield memory_check(settings, available_memory())


def memory_check(settings: PasswordSettings, available: int | None) -> Check:
    """Compare the memory of concurrent hashes with the available bytes (``None``: unknown)."""
    name, needed = "passwords.memory", settings.memory_kib * settings.concurrent_hashes * 1024
    finding = f"{settings.concurrent_hashes} concurrent hashes use {needed >> 20} MiB in each process"
    if available is None:
        return Check(name, "ok", finding)
    finding += f", of {available >> 20} MiB on this machine"
    if needed > _MOST_OF_MEMORY * available:
        advice = "lower concurrent_hashes, or memory_kib with more iterations; count the number of processes"
        return Check(name, "warning", finding, advice)
    return Check(name, "ok", finding)


def available_memory(container_limit: Path = CONTAINER_LIMIT) -> int | None:
    """Return the bytes of memory that this process can use: the machine's, or its container's if that is less.

    :param container_limit: the file in which the kernel shows the limit of the container.
    """
    found: list[int] = []
    with suppress(OSError, ValueError, AttributeError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):  # the file says "max" without a limit
        found.append(int(container_limit.read_text()))
    return min((size for size in found if size > 0), default=None)
