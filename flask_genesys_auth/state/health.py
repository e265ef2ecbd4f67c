"""Check that a state store has all methods, keeps a value, and is fast enough."""

from __future__ import annotations

import secrets
from time import perf_counter

from ..chain.protocols import StateStore
from ..checks import SLOW, Check
from ..errors import ConfigurationError, StateUnavailable

_PROBE_LIVES = 60.0


def check_methods(store: StateStore) -> StateStore:
    """Return an application's own store if it has all methods.

    :raises ConfigurationError: if not, so that this shows at the start and not at the first revocation.
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
    """Store a value and take it back, as a login does: this checks the connection, the tables and the rights.

    :param slow: a change that takes more seconds is reported.
    """
    key, value = f"doctor:{secrets.token_hex(16)}", secrets.token_hex(8)
    try:
        store.get(key)  # opens the connection, so that this is not timed
        began = perf_counter()
        stored = store.add(key, value, _PROBE_LIVES)
        same = stored and store.take(key) == value
        taken = (perf_counter() - began) / 2
    except StateUnavailable as error:
        return Check(name, "failure", error.finding, "start it, and check that this user may use it")
    except ConfigurationError as error:
        return Check(name, "failure", str(error), "do this first: logins fail until then")
    if not same:
        return Check(name, "failure", f"{store!r} did not return the stored value", "check the store's own code")
    finding = f"{store!r} stores and returns a value, {1000 * taken:.1f} ms each"
    if taken > slow:
        return Check(name, "warning", finding, "find out why: each request with a login session waits as long")
    return Check(name, "ok", finding)
