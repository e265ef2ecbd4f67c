"""The state in Redis or Valkey: for several nodes. Every change is one script, which Redis runs alone (atomic)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, StateUnavailable
from ..events import Outage
from ..forks import watch_forks
from .health import round_trip_check
from .redis_client import RedisClient, beginning_with
from .redis_health import persistence_check, server_checks
from .values import BATCH, batches, check_key, check_terms, check_ttl, dump, load

if TYPE_CHECKING:
    from ..chain.ports import Json
    from ..checks import Check

SCHEMA_VERSION = 1
LONGEST_TTL = 100 * 365 * 86400.0

# What is kept is the end (unix time of the callers' clock), a line feed, and the JSON. Redis' own end of a key is there
# so that nothing piles up. The index of a term is a sorted set of keys by their end; a key's own terms are a set.
_FUNCTIONS = """
local function living(text, now)
  return text and tonumber(string.sub(text, 1, string.find(text, '\\n') - 1)) > tonumber(now)
end
local function forget(key, labels, index, name)
  for _, term in ipairs(redis.call('SMEMBERS', labels)) do redis.call('ZREM', index .. term, name) end
  redis.call('DEL', labels)
end
local function enter(index, term, name, stop, ttl, now)
  local set = index .. term
  redis.call('ZADD', set, stop, name)
  redis.call('ZREMRANGEBYSCORE', set, '-inf', now)
  if redis.call('PTTL', set) < tonumber(ttl) then redis.call('PEXPIRE', set, ttl) end
end
local function store(key, labels, index, name, text, stop, ttl, now)
  forget(key, labels, index, name)
  redis.call('SET', key, text, 'PX', ttl)
  for place = 7, #ARGV do
    redis.call('SADD', labels, ARGV[place])
    enter(index, ARGV[place], name, stop, ttl, now)
  end
  redis.call('PEXPIRE', labels, ttl)
end
"""
_HEAD = f"""{_FUNCTIONS}
local key, labels = KEYS[1], KEYS[2]
local index, name, now, text, stop, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
"""
_PUT = _HEAD + "store(key, labels, index, name, text, stop, ttl, now)"
_ADD = _HEAD + (
    "if living(redis.call('GET', key), now) then return 0 end "
    "store(key, labels, index, name, text, stop, ttl, now) return 1"
)
_REPLACE = _HEAD + (
    "if not living(redis.call('GET', key), now) then return 0 end "
    "redis.call('SET', key, text, 'PX', ttl) redis.call('PEXPIRE', labels, ttl) "
    "for _, term in ipairs(redis.call('SMEMBERS', labels)) do enter(index, term, name, stop, ttl, now) end return 1"
)
_TAKE = _HEAD + (
    "local text = redis.call('GET', key) redis.call('DEL', key) forget(key, labels, index, name) return text"
)
_SWEEP = _HEAD + (
    "local text = redis.call('GET', key) if not text or living(text, now) then return 0 end "
    "redis.call('DEL', key) forget(key, labels, index, name) return 1"
)
_FIND = (
    "local found = {} for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')) do "
    "if redis.call('EXISTS', ARGV[2] .. name) == 1 then found[#found + 1] = name end end return found"
)
# Of those that have gone by themselves nothing may stay behind, or they would be found for ever.
_DELETE_FOUND = _FUNCTIONS + (
    "local set, keys, labels, index, now, most = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] "
    "local names, gone = redis.call('ZRANGEBYSCORE', set, '(' .. now, '+inf', 'LIMIT', 0, most), 0 "
    "for _, name in ipairs(names) do "
    "gone = gone + redis.call('DEL', keys .. name) forget(keys .. name, labels .. name, index, name) "
    "redis.call('ZREM', set, name) end return {#names, gone}"
)
_SCRIPTS = {
    "add": _ADD,
    "put": _PUT,
    "replace": _REPLACE,
    "take": _TAKE,
    "sweep": _SWEEP,
    "find": _FIND,
    "delete_found": _DELETE_FOUND,
}


class RedisState:
    """Implements :class:`~flask_genesys_auth.chain.ports.StateStore` in Redis 6.2 or later, or Valkey.

    A failed call is not tried again: nobody could tell whether the first one counted. A cluster is not supported, for
    one change touches keys of several slots. Redis must not evict (``maxmemory-policy noeviction``): what it throws
    away is a login session, or the memory that an assertion was used.

    :param url: ``redis://`` or ``rediss://``, perhaps with user, password and the number of the database.
    :param namespace: whose keys these are: stores of other namespaces in the same database never see them.
    :param timeout: seconds for a call, whatever it takes: a free connection, a new one, the answer.
    :param clock: unix time, which all nodes share.
    :raises ConfigurationError: if the address cannot be read, or the data there are of another version.
    """

    def __init__(self, url: str, namespace: str, timeout: float, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # The length before the name: no namespace runs into the keys of another.
        self._prefix = f"genesys-auth:{len(check_key(namespace))}:{namespace}:"
        self._namespace = namespace
        self._client = RedisClient(url, timeout, _SCRIPTS, purpose="the state", key="state_url")
        self._ready = False
        self._outage = Outage(f"the state in {self._client.name}")
        watch_forks(self)
        try:
            self._check_version(self._client.deadline())
        except StateUnavailable:
            # Whether it can be used is seen at its first use.
            self.close()

    def __repr__(self) -> str:
        return f"RedisState({self._client.name!r}, {self._namespace!r})"

    def add(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> bool:
        """Store a value unless the key is taken (atomic); tell whether it was stored."""
        return bool(self._change("add", key, value, ttl, check_terms(index)))

    def put(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> None:
        """Store a value whatever was there; ``index`` replaces the key's former index terms."""
        self._change("put", key, value, ttl, check_terms(index))

    def replace(self, key: str, value: Json, ttl: float) -> bool:
        """Store a value only where the key lives (atomic), its index terms kept; tell whether it did."""
        return bool(self._change("replace", key, value, ttl, ()))

    def get(self, key: str) -> Json:
        """Return the value, or ``None`` where there is none or it has expired."""
        return self._living(self._ask("GET", self._at("k", check_key(key))))

    def get_many(self, keys: Sequence[str]) -> list[Json]:
        """Return the value of each key, as :meth:`get` would, in few round trips."""
        places = [self._at("k", check_key(key)) for key in keys]
        found: list[bytes | None] = []
        for start in range(0, len(places), BATCH):
            found += self._ask("MGET", *places[start : start + BATCH])
        return [self._living(text) for text in found]

    def take(self, key: str) -> Json:
        """Return the value and delete it (atomic: of many callers one gets it), or ``None``."""
        return self._living(self._remove(key))

    def delete(self, key: str) -> bool:
        """Delete the key; tell whether it was there."""
        return _is_living(self._remove(key), self._clock())

    def find(self, term: str) -> list[str]:
        """Return the living keys that carry this index term."""
        keys, arguments = [self._at("i", check_key(term))], [repr(self._clock()), self._at("k", "")]
        found: list[bytes] = self._run("find", keys, arguments)
        return sorted(name.decode() for name in found)

    def find_each(self, term: str) -> Iterator[list[str]]:
        """Yield the living keys that carry this index term in batches, each looked for by itself."""
        place, cursor = self._at("i", check_key(term)), b"0"
        while True:
            cursor, pairs = self._ask("ZSCAN", place, cursor.decode(), "COUNT", BATCH)
            now = self._clock()
            # ZSCAN may show more than it is asked for.
            found = [name.decode() for name, end in zip(pairs[::2], pairs[1::2], strict=True) if float(end) > now]
            yield from batches(found)
            if cursor == b"0":
                return

    def delete_found(self, term: str) -> int:
        """Delete living keys that carry this index term, a batch of them (atomic); return how many."""
        places = [self._at(kind, "") for kind in ("k", "t", "i")]
        keys = [self._at("i", check_key(term))]
        while True:
            found, gone = self._run("delete_found", keys, [*places, repr(self._clock()), str(BATCH)])
            if gone or not found:
                return int(gone)

    def purge(self) -> int:
        """Delete what has expired and Redis has not deleted by itself; return how many."""
        start = self._at("k", "")
        gone = 0
        cursor = b"0"
        while True:
            cursor, names = self._ask("SCAN", cursor.decode(), "MATCH", beginning_with(start), "COUNT", BATCH)
            gone += sum(int(self._script("sweep", name.decode()[len(start) :], repr(self._clock()))) for name in names)
            if cursor == b"0":
                return gone

    def clear(self) -> None:
        """Delete everything of this namespace, for tests."""
        for kind in ("k", "t", "i"):
            self._client.delete_all(self._at(kind, ""))

    def close(self) -> None:
        """Let go of connections; the store opens them anew when it is used again."""
        self._client.close()

    def checks(self) -> Iterator[Check]:
        """Yield whether the server is as it must be, and keeps what it is given."""
        found = list(server_checks(self._client, "state"))
        yield from found
        if len(found) > 1:  # it answers
            yield persistence_check(self._client, "state.persistence")
            yield round_trip_check(self)

    def before_fork(self) -> None:
        """Do nothing: the parent goes on with its connections."""

    def after_fork(self) -> None:
        """Look at the version anew; the connections are the client's matter."""
        self._ready = False

    def _change(self, script: str, key: str, value: Json, ttl: float, labels: Iterable[str]) -> Any:
        now = self._clock()
        lasts = min(check_ttl(ttl), LONGEST_TTL)
        stop = repr(now + lasts)
        text = f"{stop}\n{dump(value)}"
        return self._script(script, check_key(key), repr(now), text, stop, str(math.ceil(lasts * 1000)), *labels)

    def _remove(self, key: str) -> bytes | None:
        found: bytes | None = self._script("take", check_key(key), repr(self._clock()))
        return found

    def _script(self, script: str, key: str, *arguments: str) -> Any:
        keys = [self._at("k", key), self._at("t", key)]
        return self._run(script, keys, [self._at("i", ""), key, *arguments])

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[str]) -> Any:
        return self._guarded(lambda deadline: self._client.run(script, keys, arguments, deadline))

    def _ask(self, *command: str | float) -> Any:
        return self._guarded(lambda deadline: self._client.ask(*command, deadline=deadline))

    def _guarded(self, call: Callable[[float], Any]) -> Any:
        deadline = self._client.deadline()
        try:
            if not self._ready:
                self._check_version(deadline)
            found = call(deadline)
        except StateUnavailable as error:
            # Another server may stand there when one does again.
            self._ready = False
            self._outage.failed(error.finding)
            raise
        self._outage.answered()
        return found

    def _check_version(self, deadline: float) -> None:
        key = self._prefix + "schema"
        self._client.ask("SET", key, SCHEMA_VERSION, "NX", deadline=deadline)
        found: bytes | None = self._client.ask("GET", key, deadline=deadline)
        if found != str(SCHEMA_VERSION).encode():
            raise ConfigurationError(
                f"state_url: what {self._client.name} keeps for {self._namespace!r} is of version "
                f"{(found or b'?').decode('utf-8', 'replace')}, this release needs {SCHEMA_VERSION}; "
                "set another state_namespace: people log in anew"
            )
        self._ready = True

    def _at(self, kind: str, key: str) -> str:
        return f"{self._prefix}{kind}:{key}"

    def _living(self, text: bytes | None) -> Json:
        if text is None or not _is_living(text, self._clock()):
            return None
        return load(text.partition(b"\n")[2].decode())


def _is_living(text: bytes | None, now: float) -> bool:
    return text is not None and float(text.partition(b"\n")[0]) > now
