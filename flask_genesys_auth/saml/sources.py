"""Sources of a provider's metadata: a file, or a URL.

The last good metadata of a URL are stored in the state, for other nodes and for the next start.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import urlsplit

from ..chain.outcomes import Unavailable
from ..config.addresses import LOOPBACK_HOSTS
from ..errors import StateUnavailable
from ..events import Event, log_event
from ..processes import PerProcess
from ..upstream import Deadline, Upstream
from .documents import from_base64
from .keys import der_of
from .metadata import (
    BINDINGS,
    LIMITS,
    Endpoint,
    MetadataRefused,
    ProviderMetadata,
    bytes_of,
    parse_metadata,
    web_address,
)
from .signatures import load_key

if TYPE_CHECKING:
    from ..chain.protocols import Json, StateStore
    from ..config.settings import IdentityProvider

FETCH_TIMEOUT = 10.0
"""Seconds within which the whole answer of a URL must arrive."""

_ACCEPT = "application/samlmetadata+xml, application/xml;q=0.9, text/xml;q=0.8"

LIFETIME = 30 * 24 * 3600.0
"""Seconds for which metadata are stored after the provider's last answer."""

CLOCK_TOLERANCE = 300.0
"""Seconds by which another node's clock may be ahead of ours."""


class StoredMetadata:
    """The last good metadata of one provider, stored in the state. Without a state nothing is stored.

    :param origin: everything that trust in them depends on (contact center, provider, URL, entity ID, pinned
        certificate), so that another configuration does not find them.
    """

    def __init__(self, state: StateStore | None, origin: tuple[str, ...]) -> None:
        self._state = state
        self._key = f"saml-metadata:{hashlib.sha256(json.dumps(origin).encode()).hexdigest()}"

    def get(self, now: float) -> ProviderMetadata | None:
        """Return the metadata, or ``None`` if they are missing, expired or unreadable, or the state times out."""
        try:
            value = None if self._state is None else self._state.get(self._key)
        except StateUnavailable:
            return None
        try:
            metadata = _metadata_of(value)
        except (ValueError, LookupError, TypeError, AttributeError):
            return None
        ends = metadata.valid_until
        # Metadata from the future, of a node with a wrong clock, would never be replaced.
        if metadata.fetched > now + CLOCK_TOLERANCE or (ends is not None and now >= ends):
            return None
        return metadata

    def put(self, metadata: ProviderMetadata) -> bool:
        """Store the metadata; return whether they are stored. Errors of the state are logged only."""
        if self._state is None:
            return False
        try:
            self._state.put(self._key, _value_of(metadata), LIFETIME)
        except StateUnavailable as error:
            finding = f"SAML metadata are not stored, the state is unavailable: {error.finding}"
            log_event(Event.SAML_METADATA_NOT_KEPT, detail=finding)
            return False
        return True


def _value_of(found: ProviderMetadata) -> Json:
    return {
        "fetched": found.fetched,
        "entity_id": found.entity_id,
        "single_sign_on": _endpoints_value(found.single_sign_on),
        "single_logout": _endpoints_value(found.single_logout),
        "certificates": [base64.b64encode(certificate).decode() for certificate in found.certificates],
        "valid_until": found.valid_until,
        "wants_signed_requests": found.wants_signed_requests,
    }


def _endpoints_value(endpoints: Mapping[str, Endpoint]) -> Json:
    return {name: [endpoint.location, endpoint.response_location] for name, endpoint in endpoints.items()}


def _metadata_of(value: Any) -> ProviderMetadata:
    """Return the metadata that :func:`_value_of` stored; any other value raises various errors."""
    certificates = tuple(from_base64(text) for text in value["certificates"])
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
        fetched=_number(value["fetched"]),
    )
    if not metadata.single_sign_on or not metadata.certificates:
        raise ValueError("no endpoint or no certificate")
    return metadata


def _endpoints(value: Any) -> dict[str, Endpoint]:
    return {
        name: Endpoint(web_address(value[name][0]), web_address(value[name][1])) for name in BINDINGS if name in value
    }


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("not a text")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e12:  # false for NaN
        raise ValueError("not a time")
    return cast("float", value)


class _LastRead:
    """The version of the file that this process has read last, or ``None`` after a failure."""

    stamp: tuple[int, ...] | None = None


class FileSource:
    """A metadata file, read again when it changes. Its writers are trusted, unless a certificate is pinned.

    The methods are those of :class:`AddressSource`.
    """

    is_local = True
    check_interval = 10.0

    def __init__(self, settings: IdentityProvider) -> None:
        self.where = str(settings.metadata)
        self._path = Path(settings.metadata)
        self._entity_id = settings.entity_id
        self._signer = _signer(settings)
        self._last_read = PerProcess(_LastRead)

    def newer(self, held: ProviderMetadata | None, now: float, *, may_fetch: bool) -> ProviderMetadata | None:
        """Read the file if it changed since it was last read, also if that failed."""
        read = self._last_read.get().stamp
        return self.fetch(now) if held is None or read is None or self._stamp() != read else None

    def is_old(self, held: ProviderMetadata, now: float) -> bool:
        """Return false: :meth:`newer` always reads the file itself."""
        return False

    def fetch(self, now: float) -> ProviderMetadata:
        """Read the file."""
        last_read = self._last_read.get()
        last_read.stamp = None
        # Before the file is read, so that a write meanwhile is noticed.
        stamp = self._stamp()
        data = bytes_of(self._path)
        last_read.stamp = stamp
        return parse_metadata(data, entity_id=self._entity_id, now=now, signer=self._signer)

    def kept(self, now: float) -> ProviderMetadata | None:
        """Return ``None``: every node reads the file."""
        return None

    def keep(self, metadata: ProviderMetadata) -> bool:
        """Return true: every node reads the file."""
        return True

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - one call for all four
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)


class AddressSource:
    """An http(s) URL, fetched every ``metadata_refresh`` seconds by one of the nodes.

    Redirects are not followed; certificates of https are verified. Metadata from another machine by plain http need a
    validUntil.

    :param timeout: seconds within which the whole answer must arrive.
    :ivar where: the URL, for messages.
    :ivar is_local: whether the source is read when the application starts.
    :ivar check_interval: seconds between two checks for newer metadata.
    """

    is_local = False
    check_interval = 60.0

    def __init__(
        self,
        settings: IdentityProvider,
        contact_center: str,
        state: StateStore | None,
        timeout: float = FETCH_TIMEOUT,
    ) -> None:
        self.where = str(settings.metadata)
        self._entity_id = settings.entity_id
        self._is_remote_http = is_remote_http(self.where)
        self._refresh = settings.metadata_refresh
        self._timeout = timeout
        self._signer = _signer(settings)
        signer = "" if self._signer is None else self._signer.hex()
        self._stored = StoredMetadata(state, (contact_center, settings.name, self.where, self._entity_id, signer))

    def newer(self, held: ProviderMetadata | None, now: float, *, may_fetch: bool) -> ProviderMetadata | None:
        """Return metadata newer than ``held``, or ``None``: another node's, else the provider's answer when due.

        :param may_fetch: whether the provider may be contacted.
        :raises MetadataRefused: if the provider's answer cannot be used.
        """
        kept = self._stored.get(now)
        if kept is not None and (held is None or kept.fetched > held.fetched):
            return kept
        if held is not None and not self._due(held, now):
            if kept is None:
                self._stored.put(held)
            return None
        return self._ask(now, kept) if may_fetch else None

    def is_old(self, held: ProviderMetadata, now: float) -> bool:
        """Return whether the refresh is long overdue, because there were no requests on any node."""
        return now - held.fetched >= 2 * self._refresh

    def fetch(self, now: float) -> ProviderMetadata:
        """Fetch the metadata from the provider.

        :raises MetadataRefused: if the answer cannot be used.
        """
        return self._ask(now, self._stored.get(now))

    def _ask(self, now: float, kept: ProviderMetadata | None) -> ProviderMetadata:
        """Fetch metadata; date the answer after the stored metadata, because another node's clock may be ahead."""
        client = Upstream(connections=1)
        try:
            answer = client.send(
                "GET",
                self.where,
                headers={"Accept": _ACCEPT},
                deadline=Deadline(self._timeout),
                max_body=LIMITS.size,
            )
        finally:
            client.close()
        if isinstance(answer, Unavailable):
            raise MetadataRefused(answer.detail)
        if 300 <= answer.status < 400:
            raise MetadataRefused(f"the server answered with a redirect (HTTP {answer.status}), which is not followed")
        if answer.status != 200:
            raise MetadataRefused(f"the server answered HTTP {answer.status}")
        found = parse_metadata(
            answer.body, entity_id=self._entity_id, now=now, signer=self._signer, must_end=self._is_remote_http
        )
        return found if kept is None else replace(found, fetched=max(now, kept.fetched + 0.001))

    def kept(self, now: float) -> ProviderMetadata | None:
        """Return the last good metadata of all nodes, if any."""
        return self._stored.get(now)

    def keep(self, metadata: ProviderMetadata) -> bool:
        """Store metadata for all nodes, unless newer ones are stored; return whether any are stored."""
        latest = self._stored.get(metadata.fetched)
        return (latest is not None and latest.fetched > metadata.fetched) or self._stored.put(metadata)

    def _due(self, held: ProviderMetadata, now: float) -> bool:
        """Return whether to fetch: after ``metadata_refresh`` seconds, or half of their validity if that is less."""
        ends = held.valid_until
        lives = self._refresh if ends is None else min(self._refresh, (ends - held.fetched) / 2)
        return not -CLOCK_TOLERANCE <= now - held.fetched < lives


Source: TypeAlias = FileSource | AddressSource


def source_of(
    settings: IdentityProvider, contact_center: str, state: StateStore | None, timeout: float = FETCH_TIMEOUT
) -> Source:
    """Return the source of a provider's metadata.

    :raises ValueError: if the pinned certificate cannot be read.
    """
    if str(settings.metadata).lower().startswith(("https://", "http://")):
        return AddressSource(settings, contact_center, state, timeout)
    return FileSource(settings)


def is_remote_http(address: str) -> bool:
    """Return whether a URL is plain http to another machine."""
    parts = urlsplit(address)
    return parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS


def _signer(settings: IdentityProvider) -> bytes | None:
    """Return the pinned certificate in DER.

    :raises ValueError: if it cannot be read.
    """
    if not settings.metadata_certificate:
        return None
    certificate = der_of(settings.metadata_certificate)
    load_key(certificate)
    return certificate
