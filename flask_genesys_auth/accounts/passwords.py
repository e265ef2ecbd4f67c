"""Password hashing with argon2id: one hash of equal cost for every question, and not too many at a time."""

from __future__ import annotations

import base64
import secrets
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Barrier, BoundedSemaphore, Lock, current_thread, main_thread
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import argon2
from argon2.exceptions import HashingError, InvalidHashError, VerificationError, VerifyMismatchError

from ..config.settings import MOST_ITERATIONS, MOST_LANES, MOST_MEMORY_KIB
from ..errors import HasherBusy
from ..events import Event, log_event
from ..processes import PerProcess

if TYPE_CHECKING:
    from ..config.settings import PasswordSettings

PATIENCE = 0.5
"""Seconds for which a verification waits for its turn."""
PATIENCE_OF_THREADS = 10.0
"""Seconds for which threads that begin wait for one another."""
LONGEST = 512
SHORTEST_SALT = 8
SHORTEST_DIGEST = 12

P = ParamSpec("P")
R = TypeVar("R")


class PasswordHasher:
    """Hashes and verifies with argon2id (RFC 9106), in a few threads of its own.

    glibc's malloc keeps what a thread has once hashed in, so that a process would come to hold ``memory_kib`` for each
    of its threads, however few may hash at once.

    :param settings: its parameters, and how many hashes may run in this process at once.
    :param patience: seconds for which a verification waits for its turn.
    """

    def __init__(self, settings: PasswordSettings, *, patience: float = PATIENCE) -> None:
        self._argon2 = argon2.PasswordHasher(
            time_cost=settings.iterations, memory_cost=settings.memory_kib, parallelism=settings.lanes
        )
        self._dummy = self._argon2.hash(secrets.token_hex(16))
        self._workers = PerProcess(partial(_Workers, settings.concurrent_hashes, patience))

    def hash(self, password: str) -> str:
        """Return the PHC string of this password under a new salt.

        :raises HasherBusy: if too many passwords are being hashed.
        """
        return self._workers.get().run(self._argon2.hash, _bytes(password))

    def verify(self, stored: str | None, password: str) -> bool:
        """Tell whether this is the password, by one call of argon2 whatever is stored.

        :param stored: a PHC string, or ``None`` where there is no account or no password.
        :raises HasherBusy: if too many passwords are being hashed.
        """
        known = stored if stored is not None and is_argon2(stored) else None
        if stored is not None and known is None:
            log_event(
                Event.PASSWORD_HASH_UNREADABLE,
                detail="a stored password hash is not one of argon2id: its account needs a new password",
            )
        try:
            self._workers.get().run(self._argon2.verify, known or self._dummy, _bytes(password))
        except VerifyMismatchError:
            return False
        return known is not None

    def needs_rehash(self, stored: str) -> bool:
        """Tell whether this hash was made under other parameters than today's."""
        return is_argon2(stored) and self._argon2.check_needs_rehash(stored)

    def slot(self) -> AbstractContextManager[None]:
        """Wait for a turn to hash, for a short time.

        :raises HasherBusy: if there is none.
        """
        return self._workers.get().slot()


class _Workers:
    """The threads of one process that hash, and the turns to use them."""

    def __init__(self, concurrent: int, patience: float) -> None:
        self._concurrent = concurrent
        self._patience = patience
        self._turns = BoundedSemaphore(concurrent)
        self._starting = Lock()
        self._threads: ThreadPoolExecutor | None = None

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a turn to hash.

        :raises HasherBusy: if there is none in time.
        """
        if not self._turns.acquire(timeout=self._patience):
            raise HasherBusy(f"more than {self._concurrent} passwords are being hashed at once", retry_after=1)
        try:
            yield
        finally:
            self._turns.release()

    def run(self, hashed: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Hash when it is this call's turn.

        :raises HasherBusy: if there is no turn in time, no thread or no memory.
        """
        with self.slot(), _without_memory_busy():
            if current_thread() is main_thread():
                # It is one thread anyway; and a Ctrl-C, which comes here, must not meet a thread that is half begun.
                return hashed(*arguments, **named)
            with _without_threads_busy():
                waited_for = self._started().submit(hashed, *arguments, **named)
            try:
                return waited_for.result()
            finally:
                # Else what it raised would keep itself alive, and the password with it.
                del waited_for

    def _started(self) -> ThreadPoolExecutor:
        """Return the threads, all of them begun: no password waits for one that cannot be."""
        with self._starting:
            if self._threads is None:
                threads = ThreadPoolExecutor(self._concurrent, thread_name_prefix="argon2id")
                gate = Barrier(self._concurrent, timeout=PATIENCE_OF_THREADS)
                try:
                    for _ in range(self._concurrent):
                        threads.submit(gate.wait)
                except BaseException:
                    # None of those that have begun may wait for the others for ever.
                    gate.abort()
                    threads.shutdown(wait=False)
                    raise
                self._threads = threads
            return self._threads


@contextmanager
def _without_memory_busy() -> Iterator[None]:
    try:
        yield
    except VerifyMismatchError:
        raise
    except (HashingError, VerificationError) as error:
        raise HasherBusy(f"argon2 could not hash a password: {error}", retry_after=1) from None


@contextmanager
def _without_threads_busy() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # The system gives no more threads, or the process is ending.
        raise HasherBusy(f"no password can be hashed: {error}", retry_after=1) from None


def is_argon2(stored: str) -> bool:
    """Tell whether a text is the PHC string of an argon2id hash, and one that asks for no absurd work."""
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
    """Return what is hashed: the password in NFC (RFC 8265 4.2), as UTF-8."""
    return unicodedata.normalize("NFC", password).encode("utf-8")


@dataclass(frozen=True, slots=True)
class ForeignHashes:
    """How hashes of another format than argon2's are verified.

    :param verify: takes a stored hash and a password, such as ``werkzeug.security.check_password_hash``.
    :param dummy: a hash of that format, made with the parameters the application uses: it is verified for unknown
        users and for accounts without a password, so that they take as long as a wrong password.
    """

    verify: Callable[[str, str], bool]
    dummy: str = field(repr=False)

    def check(self, stored: str | None, password: str) -> bool:
        """Tell whether this is the password, by one call of ``verify`` whatever is stored.

        What ``verify`` refuses to read (``ValueError``, ``TypeError``) is no password's hash.
        """
        try:
            same = self.verify(self.dummy if stored is None else stored, password)
        except (ValueError, TypeError):
            log_event(
                Event.PASSWORD_HASH_UNREADABLE,
                detail="a stored password hash is not of the application's format: its account cannot log in by it",
            )
            return False
        return bool(same) and stored is not None
