"""Logins on their way that a provider has ended before they came to their end.

A logout request counts for every assertion of its user, "even if the assertion arrives after the logout request"
(saml-core 3.7.3.2); and between the assertion and the login session lie a redirect and perhaps a question.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from .errors import Fault, SamlError

if TYPE_CHECKING:
    from ..chain.protocols import StateStore
    from .logout import LogoutAsked
    from .requests import Login
    from .settings import ServiceProvider


def note_logout(state: StateStore, service: ServiceProvider, asked: LogoutAsked, longest_way: float) -> None:
    """Keep whom a provider's request logs out, until no login of theirs from before can be on its way.

    Each request has a note of its own, so that of two at the same moment neither overwrites the other's.

    :param longest_way: seconds from an accepted assertion to its login session.
    :raises StateUnavailable: if that cannot be kept.
    """
    named = (service.contact_center, asked.trust.name, asked.name_id.text)
    lifetime = max(asked.ends - service.clock(), 0.0) + longest_way
    value: Any = {"issued": asked.issued, "session_indexes": list(asked.session_indexes)}
    state.put(_name("saml-logged-out", *named, asked.request_id), value, lifetime, index=[_term(*named)])


def check_not_logged_out(state: StateStore, service: ServiceProvider, login: Login) -> None:
    """Make sure that the provider has not logged this login out meanwhile.

    The two are told apart by the provider's own clock: what it has said after its request is a new login.

    :raises SamlError: if it has.
    :raises StateUnavailable: if nobody can tell.
    """
    if not login.name_id:
        return
    for key in state.find(_term(service.contact_center, login.provider, login.name_id)):
        noted: Any = state.get(key)
        if noted is None or login.issued > noted["issued"]:
            continue
        if not noted["session_indexes"] or login.session_index in noted["session_indexes"]:
            raise SamlError(
                Fault.LOGGED_OUT,
                "the provider has logged this user out before the login came to its end",
                provider=login.provider,
            )


def _term(contact_center: str, provider: str, name_id: str) -> str:
    return _name("saml-logged-out-name", contact_center, provider, name_id)


def _name(kind: str, *parts: str) -> str:
    return f"{kind}:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}"
