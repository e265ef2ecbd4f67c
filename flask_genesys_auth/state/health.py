"""What every state says of its own health: whether it takes and gives back what it must, and how fast."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from time import perf_counter

from ..chain.protocols import StateStore
from ..checks import SLOW, Check
from ..errors import ConfigurationError, StateUnavailable

_PROBE_LIVES = 60.0


def check_methods(store: StateStore) -> StateStore:
    """Return an application's own store, if it has all that will be asked of it.

    :raises ConfigurationError: if not: better now than when somebody's sessions must end.
    """
    wanted = [name for name in vars(StateStore) if not name.startswith("_")]
    missing = [f"{name}()" for name in wanted if not callable(getattr(store, name, None))]
    if missing:
        raise ConfigurationError(
            f"the state store given to GenesysAuth ({store!r}) has no {', '.join(missing)}: "
            "see flask_genesys_auth.chain.protocols.StateStore"
        )
    return store


def round_trip_check(store: StateStore, name: str = "state.round_trip", *, slow: float = SLOW) -> Check:
    """Store a value and take it back, as a login does: that shows the way, the tables and the rights at once.

    :param slow: seconds from which a change is too slow.
    """
    key, value = f"doctor:{secrets.token_hex(16)}", secrets.token_hex(8)
    try:
        store.get(key)  # makes the connection, which is not what is timed
        began = perf_counter()
        stored = store.add(key, value, _PROBE_LIVES)
        same = stored and store.take(key) == value
        taken = (perf_counter() - began) / 2
    except StateUnavailable as error:
        return Check(name, "failure", error.finding, "see that it is there, and that this user may use it")
    except ConfigurationError as error:
        return Check(name, "failure", str(error), "do what it says: people cannot log in before")
    if not same:
        return Check(name, "failure", f"{store!r} did not give back what it was given", "look at the store itself")
    finding = f"{store!r} takes and gives back, {1000 * taken:.1f} ms each"
    if taken > slow:
        return Check(name, "warning", finding, "each request with a login session waits that long: look why")
    return Check(name, "ok", finding)


def memory_checks() -> Iterator[Check]:
    """Yield what is to be said of a state that is in the memory of one process."""
    yield Check(
        "state.memory",
        "warning",
        "the state is in the memory of each process: with several of them logins fail, and a restart ends all",
        "set state_url to a SQLite file, PostgreSQL or Redis; for one process in development all is well",
    )
