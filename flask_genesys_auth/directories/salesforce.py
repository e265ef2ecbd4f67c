"""Looks up the user of a session at Salesforce's identity service (Salesforce help, "Identity URLs")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from ..chain.evidence import IdentityUrl, parse_identity_url
from ..chain.outcomes import Reason, Rejected, Unavailable
from ..checks import Check
from ..config.names import short_id
from ..upstream import Answer, Deadline, Upstream, Upstreams, probe, reach_check
from .answers import Flag, answer_schema, known_text, optional_text, read_answer, required_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..config.addresses import AllowedHost
    from ..config.settings import Salesforce

MAX_REDIRECTS = 2
_UNUSED_ID = "005000000000000"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WORD = re.compile(rb"\s*([A-Za-z_]{1,40})\s*")
_VISIBLE = re.compile(r"[!-~]*")
_HINT = (
    "if this happens to every user: Salesforce rejects session ids of Lightning pages, sessions without API access, "
    'and with "Lock sessions to the IP address" every session id that a server sends'
)

_IDENTITY = answer_schema(
    user_id=required_text(),
    organization_id=required_text(),
    asserted_user=Flag(required=True),
    active=Flag(load_default=True),
    username=optional_text(),
    email=optional_text(),
    email_verified=Flag(load_default=False, allow_none=True),
    display_name=optional_text(),
    first_name=optional_text(),
    last_name=optional_text(),
)


@dataclass(frozen=True, slots=True)
class SalesforceUser:
    """The user of a session: asserted, active, and named by the identity URL.

    :param identity: ``<organization>/<user>``, both ids of 15 characters.
    :param email: empty unless Salesforce has verified it.
    :param attributes: for display: ``display_name``, ``first_name``, ``last_name``, ``username``, ``email``.
    """

    identity: str
    username: str
    email: str
    attributes: Mapping[str, str]


class SalesforceDirectory:
    """The identity service with the hosts and organizations of one contact center."""

    def __init__(self, settings: Salesforce, upstream: Upstream | None = None) -> None:
        self._settings = settings
        self._upstream = upstream or Upstreams().of(settings)

    def look_up(self, session_id: str, address: IdentityUrl | None) -> SalesforceUser | Rejected | Unavailable:
        """Return the user of a session. The session id is sent to the configured hosts only.

        :param session_id: visible ASCII.
        :param address: the client's identity URL; it is checked before anything is sent.
        """
        checked = self._check(address)
        if isinstance(checked, Rejected):
            return checked
        answer = self._request(session_id, checked)
        if not isinstance(answer, Answer):
            return answer
        if answer.status == 200:
            return _read(answer, checked)
        if 400 <= answer.status < 500:
            return Rejected(Reason.SESSION_REFUSED, _refusal(answer, session_id))
        return Unavailable(Reason.UNREADABLE_ANSWER, detail=f"the identity service answered HTTP {answer.status}")

    def checks(self) -> Iterator[Check]:
        """Yield whether each identity host is reachable; no session id is sent, so 403 is a good answer."""
        settings = self._settings
        organization = min(settings.organizations)
        for entry in settings.identity_hosts:
            server = f"{entry.scheme}://{_host(entry.host)}:{entry.port}"
            found = probe(self._upstream, "GET", f"{server}/id/{organization}/{_UNUSED_ID}", seconds=settings.timeout)
            yield reach_check(f"salesforce.{entry.host}", server, *found, settings.timeout)

    def _check(self, address: IdentityUrl | None) -> IdentityUrl | Rejected:
        if address is None:
            return Rejected(Reason.IDENTITY_URL_NOT_ALLOWED, "it is not https://<host>/id/<organization>/<user>")
        if not _listed(address, self._settings.identity_hosts):
            return Rejected(Reason.IDENTITY_URL_NOT_ALLOWED, "its host is not in identity_hosts")
        if address.organization not in self._settings.organizations:
            return Rejected(Reason.ORGANIZATION_NOT_LISTED, f"{address.organization} is not in organizations")
        return address

    def _request(self, session_id: str, address: IdentityUrl) -> Answer | Rejected | Unavailable:
        deadline = Deadline(self._settings.timeout)
        headers = {"Authorization": f"Bearer {session_id}", "Accept": "application/json"}
        for _ in range(1 + MAX_REDIRECTS):
            # Salesforce takes single organizations out of service; the circuits of the others must stay closed.
            answer = self._upstream.send(
                "GET", _url(address), headers=headers, deadline=deadline, part=address.organization
            )
            if isinstance(answer, Unavailable) or answer.status not in _REDIRECTS:
                return answer
            target = self._follow(address, answer)
            if isinstance(target, Rejected):
                return target
            address = target
        return Rejected(Reason.UNEXPECTED_REDIRECT, f"more than {MAX_REDIRECTS} redirects")

    def _follow(self, address: IdentityUrl, answer: Answer) -> IdentityUrl | Rejected:
        """Return the address of a redirect, rebuilt from its checked parts."""
        location = answer.headers.get("Location", "")
        try:
            # Checked first, because urljoin removes tabs and line ends.
            target = parse_identity_url(urljoin(_url(address), location)) if _VISIBLE.fullmatch(location) else None
        except ValueError:
            target = None
        if target is None or target.path != address.path:
            return Rejected(Reason.UNEXPECTED_REDIRECT, "to an address with another path or form")
        if not _listed(target, self._settings.identity_hosts + self._settings.redirect_hosts):
            return Rejected(Reason.UNEXPECTED_REDIRECT, "to a host in neither identity_hosts nor redirect_hosts")
        return target


def _listed(address: IdentityUrl, allowed: Iterable[AllowedHost]) -> bool:
    return any(entry.matches(address.scheme, address.host, address.port) for entry in allowed)


def _url(address: IdentityUrl) -> str:
    return f"{address.scheme}://{_host(address.host)}:{address.port}{address.path}"


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _refusal(answer: Answer, session_id: str) -> str:
    """Describe a refusal by its one word (``Bad_OAuth_Token``), unless that could be part of the session id."""
    found = _WORD.fullmatch(answer.body)
    word = found[1].decode() if found else ""
    said = f": {word}" if word and word not in session_id else ""
    return f"HTTP {answer.status}{said}; {_HINT}"


def _read(answer: Answer, address: IdentityUrl) -> SalesforceUser | Rejected | Unavailable:
    found = read_answer(_IDENTITY, answer)
    if isinstance(found, Unavailable):
        return found
    if not found["asserted_user"]:
        return Rejected(Reason.FOREIGN_IDENTITY, "asserted_user is false: the session is another user's")
    if short_id(found["user_id"]) != address.user or short_id(found["organization_id"]) != address.organization:
        return Rejected(Reason.FOREIGN_IDENTITY, "the ids in the answer differ from those of the identity URL")
    if not found["active"]:
        return Rejected(Reason.INACTIVE_IDENTITY)
    email = found["email"] if found["email_verified"] else None
    return SalesforceUser(
        identity=f"{address.organization}/{address.user}",
        username=found["username"] or "",
        email=email or "",
        attributes=known_text(
            username=found["username"],
            email=email,
            display_name=found["display_name"],
            first_name=found["first_name"],
            last_name=found["last_name"],
        ),
    )
