"""Store the state in Redis or Valkey, for several nodes. Each change is one script, which Redis runs atomically."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..checks import SLOW
from ..errors import StateUnavailable
from ..events import Outage
from ..processes import PerProcess
from .health import round_trip_check
from .redis_client import RedisClient, beginning_with
from .redis_health import persistence_check, server_checks
from .values import BATCH, batches, check_key, check_terms, check_ttl, dump, load

if TYPE_CHECKING:
    from ..chain.protocols import Json
    from ..checks import Check

SCHEMA_VERSION = 2
LONGEST_TTL = 100 * 365 * 86400.0

# A value consists of its expiry time (unix time of the callers' clock), the JSON and its key, separated by line feeds,
# which our JSON does not contain. Redis' own expiry only frees memory. The index of a term is a sorted set of keys by
# their expiry time; the terms of a key are a set.
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
_GET = "return redis.call('MGET', unpack(KEYS))"
_PURGE_PAGE = _FUNCTIONS + (
    "local keys, labels, index, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4] "
    "local page, gone = redis.call('SCAN', ARGV[5], 'MATCH', ARGV[6], 'COUNT', ARGV[7]), 0 "
    "for _, key in ipairs(page[2]) do local text, name = redis.call('GET', key), string.sub(key, #keys + 1) "
    "if text and not living(text, now) then "
    "redis.call('DEL', key) forget(key, labels .. name, index, name) gone = gone + 1 end end return {page[1], gone}"
)
_FIND = (
    "local found = {} for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')) do "
    "if redis.call('EXISTS', ARGV[2] .. name) == 1 then found[#found + 1] = name end end return found"
)
_FIND_PAGE = "return redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])"
# Also removes from the index keys that Redis has expired; otherwise they would be found again and again.
_DELETE_FOUND = _FUNCTIONS + (
    "local set, keys, labels, index, now, most = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] "
    "local names, gone = redis.call('ZRANGEBYSCORE', set, '(' .. now, '+inf', 'LIMIT', 0, most), 0 "
    "for _, name in ipairs(names) do "
    "gone = gone + redis.call('DEL', keys .. name) forget(keys .. name, labels .. name, index, name) "
    "redis.call('ZREM', set, name) end return {#names, gone}"
)
_SCRIPTS = {
    "get": _GET,
    "add": _ADD,
    "put": _PUT,
    "replace": _REPLACE,
    "take": _TAKE,
    "purge_page": _PURGE_PAGE,
    "find": _FIND,
    "find_page": _FIND_PAGE,
    "delete_found": _DELETE_FOUND,
}


class RedisState:
    """Implements :class:`~flask_genesys_auth.chain.protocols.StateStore` in Redis 6.2 or later, or Valkey.

    A failed call is not retried, because it may have taken effect. Redis Cluster is not supported: a change uses keys
    of several slots, and a script that fails is not rolled back. Redis must not evict keys (``maxmemory-policy
    noeviction``): an evicted key is a login session, or the record that an assertion was used.

    :param url: ``redis://``, ``rediss://``, ``unix://`` or ``redis+sentinel://``.
    :param namespace: separates the keys of applications that share the database.
    :param timeout: seconds for each wait of a call, see :class:`~flask_genesys_auth.state.redis_client.RedisClient`.
    :param clock: unix time, the same on all nodes.
    :raises ConfigurationError: if the URL is not valid.
    """

    def __init__(self, url: str, namespace: str, timeout: float, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # The version keeps the entries of other releases apart. The length keeps one namespace from being a prefix of
        # the keys of another.
        self._prefix = f"genesys-auth-v{SCHEMA_VERSION}:{len(check_key(namespace))}:{namespace}:"
        self._namespace = namespace
        self._client = RedisClient(url, timeout, _SCRIPTS, purpose="the state", key="state_url")
        self._outage = PerProcess(lambda: Outage(f"the state in {self._client.name}"))

    def __repr__(self) -> str:
        return f"RedisState({self._client.name!r}, {self._namespace!r})"

    def add(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> bool:
        """Store a value unless the key exists (atomic); return whether it was stored."""
        return bool(self._change("add", key, value, ttl, check_terms(index)))

    def put(self, key: str, value: Json, ttl: float, *, index: Iterable[str] = ()) -> None:
        """Store or replace a value; ``index`` replaces the key's index terms."""
        self._change("put", key, value, ttl, check_terms(index))

    def replace(self, key: str, value: Json, ttl: float) -> bool:
        """Replace the value of an existing key (atomic) and keep its index terms; return whether it existed."""
        return bool(self._change("replace", key, value, ttl, ()))

    def get(self, key: str) -> Json:
        """Return the value, or ``None`` if the key does not exist or has expired."""
        return self.get_many([key])[0]

    def get_many(self, keys: Sequence[str]) -> list[Json]:
        """Return the value of each key as :meth:`get` does, in few round trips."""
        places = [self._at("k", check_key(key)) for key in keys]
        found = [text for batch in batches(places) for text in self._run("get", batch, [])]
        return [self._living(key, text) for key, text in zip(keys, found, strict=True)]

    def take(self, key: str) -> Json:
        """Delete the key and return its value, or ``None`` (atomic: only one of several callers gets the value)."""
        return self._living(key, self._remove(key))

    def delete(self, key: str) -> bool:
        """Delete the key; return whether it existed."""
        return self._text(key, self._remove(key)) is not None

    def find(self, term: str) -> list[str]:
        """Return the existing keys with this index term."""
        keys, arguments = [self._at("i", check_key(term))], [repr(self._clock()), self._at("k", "")]
        found: list[bytes] = self._run("find", keys, arguments)
        return sorted(name.decode() for name in found)

    def find_each(self, term: str) -> Iterator[list[str]]:
        """Yield the existing keys with this index term in batches, with one query each."""
        place, cursor = self._at("i", check_key(term)), b"0"
        while True:
            cursor, pairs = self._run("find_page", [place], [cursor.decode(), BATCH])
            now = self._clock()
            # ZSCAN may return more than COUNT.
            found = [name.decode() for name, end in zip(pairs[::2], pairs[1::2], strict=True) if float(end) > now]
            yield from batches(found)
            if cursor == b"0":
                return

    def delete_found(self, term: str) -> int:
        """Delete up to one batch of existing keys with this index term (atomic); return how many."""
        places = [self._at(kind, "") for kind in ("k", "t", "i")]
        keys = [self._at("i", check_key(term))]
        while True:
            found, gone = self._run("delete_found", keys, [*places, repr(self._clock()), str(BATCH)])
            if gone or not found:
                return int(gone)

    def purge(self) -> int:
        """Delete expired entries that Redis has not yet deleted itself; return how many."""
        places = [self._at(kind, "") for kind in ("k", "t", "i")]
        total, cursor = 0, b"0"
        while True:
            page = (repr(self._clock()), cursor.decode(), beginning_with(places[0]), str(BATCH))
            cursor, gone = self._run("purge_page", [], [*places, *page])
            total += int(gone)
            if cursor == b"0":
                return total

    def clear(self) -> None:
        """Delete all entries of this namespace (for tests)."""
        for kind in ("k", "t", "i"):
            self._client.delete_all(self._at(kind, ""))

    def close(self) -> None:
        """Close the connections of this process; the next call opens new ones."""
        self._client.close()

    def checks(self, *, slow: float = SLOW) -> Iterator[Check]:
        """Yield the checks of the server; an answer that takes more than ``slow`` seconds is reported."""
        found = list(server_checks(self._client, "state", slow=slow))
        yield from found
        if len(found) > 1:  # it answers
            yield persistence_check(self._client, "state.persistence")
            yield round_trip_check(self, slow=slow)

    def _change(self, script: str, key: str, value: Json, ttl: float, labels: Iterable[str]) -> Any:
        now = self._clock()
        lasts = min(check_ttl(ttl), LONGEST_TTL)
        stop = repr(now + lasts)
        text = f"{stop}\n{dump(value)}\n{check_key(key)}"
        return self._script(script, key, repr(now), text, stop, str(math.ceil(lasts * 1000)), *labels)

    def _remove(self, key: str) -> bytes | None:
        found: bytes | None = self._script("take", check_key(key), repr(self._clock()))
        return found

    def _script(self, script: str, key: str, *arguments: str) -> Any:
        keys = [self._at("k", key), self._at("t", key)]
        return self._run(script, keys, [self._at("i", ""), key, *arguments])

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[str | float]) -> Any:
        outage = self._outage.get()
        try:
            found = self._client.run(script, keys, arguments)
        except StateUnavailable as error:
            outage.failed(error.finding)
            raise
        if outage.down:
            outage.answered()
        return found

    def _at(self, kind: str, key: str) -> str:
        return f"{self._prefix}{kind}:{key}"

    def _living(self, key: str, text: bytes | None) -> Json:
        living = self._text(key, text)
        return None if living is None else load(living)

    def _text(self, key: str, text: bytes | None) -> str | None:
        """Return the JSON of a value, or ``None`` if it has expired.

        :raises StateUnavailable: if the value belongs to another key.
        """
        if text is None:
            return None
        stop, _, rest = text.decode("utf-8", "replace").partition("\n")
        value, _, name = rest.partition("\n")
        if name != key:
            raise StateUnavailable(f"the state in {self._client.name} returned the value of another key")
        return value if float(stop) > self._clock() else None
