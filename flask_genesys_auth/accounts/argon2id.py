"""argon2id in memory that goes back to the system with each hash.

What malloc is given back it keeps: once glibc has freed a block of this size, the next ones come from the arena of
their thread and stay there. A process in which 16 threads have each hashed once would hold 16 times ``memory_kib``,
however few may hash at once. So each hash has a mapping of its own, which argon2 wipes and we unmap; of huge pages
where the system has them, which makes up for the page faults.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from argon2 import Parameters, Type, low_level
from argon2.exceptions import HashingError

_ffi: Any = low_level.ffi
_NO_MEMORY = -22  # ARGON2_MEMORY_ALLOCATION_ERROR
_WIPE_MEMORY_ONLY = 0  # ARGON2_DEFAULT_FLAGS
_ADVICE = ("MADV_HUGEPAGE", "MADV_DONTFORK", "MADV_DONTDUMP")


class _Here(threading.local):
    """The memory of the hash that this thread is about to make: argon2 asks for it in the same thread."""

    memory: Any = None
    raised: BaseException | None = None
    """By a callback, where nothing can be raised: a Ctrl-C, mostly, for Python hears of it there first."""


_here = _Here()


def argon2id(secret: bytes, salt: bytes, parameters: Parameters) -> bytes:
    """Return the tag (RFC 9106) of ``parameters.hash_len`` bytes.

    :raises HashingError: if there is no memory for it.
    """
    return (_in_own_memory if _can_map() else _in_memory_of_malloc)(secret, salt, parameters)


@cache
def _can_map() -> bool:
    """Tell whether libargon2 takes our memory here, and makes of it what it makes of its own."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return False
    small = Parameters(Type.ID, 19, salt_len=16, hash_len=32, time_cost=1, memory_cost=8, parallelism=1)
    given = b"try" * 4, bytes(range(16)), small
    try:
        return _in_own_memory(*given) == _in_memory_of_malloc(*given)
    except Exception:
        # A release of the bindings with another structure, or a system that forbids callbacks out of C.
        return False


def _in_memory_of_malloc(secret: bytes, salt: bytes, parameters: Parameters) -> bytes:
    return low_level.hash_secret_raw(
        secret,
        salt,
        time_cost=parameters.time_cost,
        memory_cost=parameters.memory_cost,
        parallelism=parameters.parallelism,
        hash_len=parameters.hash_len,
        type=Type.ID,
        version=parameters.version,
    )


def _in_own_memory(secret: bytes, salt: bytes, parameters: Parameters) -> bytes:
    give, take_back = _callbacks()
    # Named, so that they live as long as libargon2 points to them.
    tag = _ffi.new("uint8_t[]", parameters.hash_len)
    given, salted = _ffi.new("uint8_t[]", secret), _ffi.new("uint8_t[]", salt)
    context = _ffi.new(
        "argon2_context *",
        {
            "version": parameters.version,
            "out": tag,
            "outlen": parameters.hash_len,
            "pwd": given,
            "pwdlen": len(secret),
            "salt": salted,
            "saltlen": len(salt),
            "secret": _ffi.NULL,
            "secretlen": 0,
            "ad": _ffi.NULL,
            "adlen": 0,
            "t_cost": parameters.time_cost,
            "m_cost": parameters.memory_cost,
            "lanes": parameters.parallelism,
            "threads": parameters.parallelism,
            "allocate_cbk": give,
            "free_cbk": take_back,
            "flags": _WIPE_MEMORY_ONLY,
        },
    )
    with _memory(parameters.memory_cost * 1024):
        code = low_level.core(context, Type.ID.value)
    raised, _here.raised = _here.raised, None
    if raised is not None:
        raise raised
    if code != 0:
        raise HashingError(low_level.error_to_str(code))
    return bytes(_ffi.buffer(tag, parameters.hash_len))


@contextmanager
def _memory(size: int) -> Iterator[None]:
    try:
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, ValueError) as error:
        raise HashingError(f"Memory allocation error: {error}") from None
    with mapping:
        for advice in _ADVICE:
            with suppress(AttributeError, OSError):
                mapping.madvise(getattr(mmap, advice))
        with _ffi.from_buffer("uint8_t[]", mapping) as memory:
            _here.memory = memory
            try:
                yield
            finally:
                _here.memory = None


@cache
def _callbacks() -> tuple[Any, Any]:
    def give(memory: Any, size: int) -> int:
        mine = _here.memory
        if mine is None or size > len(mine):
            return _NO_MEMORY
        memory[0] = mine
        return 0

    def take_back(memory: Any, size: int) -> None:
        """Leave it to who has mapped it."""

    def keep(_kind: object, error: BaseException, _trace: object) -> None:
        _here.raised = error

    return (
        _ffi.callback("allocate_fptr", give, error=_NO_MEMORY, onerror=keep),
        _ffi.callback("deallocate_fptr", take_back, onerror=keep),
    )
