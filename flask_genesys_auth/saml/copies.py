"""The last good copy of a provider's metadata in the state: other nodes take it, and so does the next start."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ..errors import StateUnavailable
from ..events import Event, tell
from .metadata import BINDINGS, Endpoint, ProviderMetadata, web_address
from .verify import load_key

if TYPE_CHECKING:
    from ..chain.protocols import Json, StateStore

LIFETIME = 30 * 24 * 3600.0
"""Seconds for which a copy outlives the provider's last answer."""

AHEAD = 300.0
"""Seconds by which another node's clock may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Metadata as they were at one moment.

    :param fetched: unix time.
    """

    metadata: ProviderMetadata
    fetched: float


class Copies:
    """Where the copies of one provider's metadata are kept. Works without a state, too: then nothing is kept.

    :param origin: all that the trust in a copy rests on (contact center, provider, address, entity id, pinned
        certificate): under another configuration there is another copy.
    """

    def __init__(self, state: StateStore | None, origin: tuple[str, ...]) -> None:
        self._state = state
        self._key = f"saml-metadata:{hashlib.sha256(json.dumps(origin).encode()).hexdigest()}"

    def get(self, now: float) -> Copy | None:
        """Return the copy, or ``None``: there is none, it has expired, or nobody can tell.

        :param now: unix time.
        """
        try:
            value = None if self._state is None else self._state.get(self._key)
        except StateUnavailable:
            return None
        try:
            copy = _copy_of(value)
        except (ValueError, LookupError, TypeError, AttributeError):
            return None
        ends = copy.metadata.valid_until
        # A copy from the future, of a node whose clock is wrong, would never be older than anything.
        if copy.fetched > now + AHEAD or (ends is not None and now >= ends):
            return None
        return copy

    def put(self, copy: Copy) -> bool:
        """Keep a copy; tell whether it is kept now. A state that does not answer is no reason to fail."""
        if self._state is None:
            return False
        try:
            self._state.put(self._key, _value_of(copy), LIFETIME)
        except StateUnavailable as error:
            finding = f"a copy of SAML metadata is not kept, the state does not answer: {error.finding}"
            tell(Event.SAML_METADATA_NOT_KEPT, detail=finding)
            return False
        return True


def _value_of(copy: Copy) -> Json:
    found = copy.metadata
    return {
        "fetched": copy.fetched,
        "entity_id": found.entity_id,
        "single_sign_on": _endpoints_value(found.single_sign_on),
        "single_logout": _endpoints_value(found.single_logout),
        "certificates": [base64.b64encode(certificate).decode() for certificate in found.certificates],
        "valid_until": found.valid_until,
        "wants_signed_requests": found.wants_signed_requests,
    }


def _endpoints_value(endpoints: Mapping[str, Endpoint]) -> Json:
    return {name: [endpoint.location, endpoint.response_location] for name, endpoint in endpoints.items()}


def _copy_of(value: Any) -> Copy:
    """Return what :func:`_value_of` made a value of; raises all kinds of errors on any other value."""
    certificates = tuple(base64.b64decode(text, validate=True) for text in value["certificates"])
    for certificate in certificates:
        load_key(certificate)
    ends = value["valid_until"]
    metadata = ProviderMetadata(
        entity_id=_text(value["entity_id"]),
        single_sign_on=_endpoints(value["single_sign_on"]),
        single_logout=_endpoints(value["single_logout"]),
        certificates=certificates,
        valid_until=None if ends is None else _number(ends),
        wants_signed_requests=value["wants_signed_requests"] is True,
    )
    if not metadata.single_sign_on or not metadata.certificates:
        raise ValueError("nothing to log in with")
    return Copy(metadata, _number(value["fetched"]))


def _endpoints(value: Any) -> dict[str, Endpoint]:
    return {
        name: Endpoint(web_address(value[name][0]), web_address(value[name][1])) for name in BINDINGS if name in value
    }


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("no text")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e12:  # as NaN is not
        raise ValueError("no time")
    return cast("float", value)
