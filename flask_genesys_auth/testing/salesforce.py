"""Emulates Salesforce's identity service: a user's identity URL, for the owner of a session ID."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from werkzeug.wrappers import Request, Response

from ..config.settings import SalesforceHeaders
from .server import Emulator, json_response

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def long_id(short: str) -> str:
    """Return the 18-character form of a Salesforce ID of 15 characters, as the identity service writes it."""
    bits = [sum(1 << place for place in range(5) if short[start + place].isupper()) for start in (0, 5, 10)]
    return short + "".join(_LETTERS[value] for value in bits)


@dataclass(slots=True)
class _Person:
    user_id: str
    answer: dict[str, Any]


class SalesforceEmulator(Emulator):
    """The identity service of one organization; add its users with :meth:`add_user`.

    Set ``instance_url`` to a second server of the same emulator: other servers then redirect there, as
    login.salesforce.com redirects to the organization's instance.

    :param organization: its ID of 15 characters.
    :param headers: names of the two headers that clients send.
    """

    def __init__(self, organization: str = "00D000000000001", *, headers: SalesforceHeaders | None = None) -> None:
        super().__init__()
        self.organization = organization
        self.instance_url = ""
        self._headers = headers or SalesforceHeaders()
        self._people: dict[str, _Person] = {}
        self._sessions: dict[str, _Person] = {}
        self._changes: dict[str, Any] = {}
        self._user_ids = (f"005Dn{number:010}" for number in itertools.count(1))

    def add_user(self, username: str, **answer: Any) -> dict[str, str]:
        """Add a user with a session, and return the headers with which a client logs in as them.

        :param answer: fields of the identity, such as ``email``; each has a default.
        :raises RuntimeError: if the emulator has no URL yet.
        """
        if not self.url:
            raise RuntimeError("the identity URL needs the emulator's address: call serve() first, or set url")
        user_id = next(self._user_ids)
        path = f"/id/{long_id(self.organization)}/{long_id(user_id)}"
        known = {
            "id": self.url + path,
            "user_id": long_id(user_id),
            "organization_id": long_id(self.organization),
            "username": username,
            "nick_name": username.partition("@")[0],
            "display_name": username.partition("@")[0].title(),
            "email": username,
            "email_verified": True,
            "first_name": username.partition("@")[0].title(),
            "last_name": "Example",
            "timezone": "Europe/London",
            "active": True,
            "user_type": "STANDARD",
            "status": {"created_date": None, "body": None},
            "photos": {"picture": f"{self.url}/profilephoto/005/F"},
        }
        person = _Person(user_id, known | answer)
        session_id = f"{self.organization}!{secrets.token_urlsafe(72)}"
        self._people[user_id] = person
        self._sessions[session_id] = person
        return {self._headers.session: session_id, self._headers.identity: self.url + path}

    def end_session(self, headers: Mapping[str, str]) -> None:
        """End the session of these headers, as a logout in Salesforce does."""
        self._sessions.pop(headers[self._headers.session], None)

    def alter(self, **answer: Any) -> None:
        """Change fields of every identity until ``repair()``; ``None`` is sent as null."""
        self._changes = answer

    def repair(self) -> None:
        """Answer normally again."""
        super().repair()
        self._changes = {}

    def respond(self, request: Request) -> Response:
        """Answer like Salesforce; refusals are one word in plain text."""
        if self.instance_url and request.host_url.rstrip("/") != self.instance_url:
            return Response(status=302, headers={"Location": self.instance_url + request.path})
        sent = request.authorization
        if sent is None or sent.type not in {"bearer", "oauth"}:
            return _word("Missing_OAuth_Token", 403)
        owner = self._sessions.get(sent.token or "")
        if owner is None:
            return _word("Bad_OAuth_Token", 403)
        parts = request.path.split("/")
        if len(parts) != 4 or parts[1] != "id":
            return _word("Bad_Id", 404)
        if parts[2][:15] != self.organization:
            return _word("Wrong_Org", 403)
        person = self._people.get(parts[3][:15])
        if person is None:
            return _word("Bad_Id", 404)
        # A token with enough scope reads another user's identity too; only asserted_user shows it.
        return self._answer(request, {"asserted_user": owner is person} | person.answer | self._changes)

    def _answer(self, request: Request, found: dict[str, Any]) -> Response:
        if request.accept_mimetypes.best_match(["application/xml", "application/json"]) == "application/json":
            return json_response(found)
        fields = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in found.items())
        return Response(f'<?xml version="1.0" encoding="UTF-8"?><user>{fields}</user>', content_type="application/xml")


def _word(word: str, status: int) -> Response:
    return Response(word, status, content_type="text/plain;charset=UTF-8")
