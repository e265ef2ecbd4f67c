"""Emulates Genesys' Authentication REST: a token for a password, and userinfo for the token."""

from __future__ import annotations

import hmac
import itertools
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from werkzeug.wrappers import Request, Response

from ..directories.genesys import TOKEN_PATH, UNAUTHORIZED, USERINFO_PATH
from .server import Emulator, basic_authorization, json_response

_MAX_TOKENS = 1000


@dataclass(slots=True)
class _Person:
    password: str
    userinfo: dict[str, Any]
    failures: int = 0


class GenesysEmulator(Emulator):
    """An Authentication REST; add its users with :meth:`add_user`.

    :param client_id: of the application, with its ``client_secret``.
    :param tenant: required before the backslash of a user name.
    :param contact_center_id: in userinfo.
    :param lock_after: failed attempts after which an account is locked, as Configuration Server does; 0: never.
    :param status_errors: refuse with ``{"status": {"code": 603}}`` instead of an OAuth error.
    """

    def __init__(
        self,
        *,
        client_id: str = "flask-genesys-auth",
        client_secret: str = "client-secret",  # noqa: S107 - of an emulator
        tenant: str = "Environment",
        contact_center_id: str = "contact-center-1",
        lock_after: int = 0,
        status_errors: bool = False,
    ) -> None:
        super().__init__()
        self.client_id = client_id
        self.client_secret = client_secret
        self.tenant = tenant
        self.contact_center_id = contact_center_id
        self.lock_after = lock_after
        self.status_errors = status_errors
        self._people: dict[str, _Person] = {}
        self._tokens: OrderedDict[str, _Person] = OrderedDict()
        self._changes: dict[str, Any] = {}
        self._dbids = itertools.count(101)

    def add_user(self, user_name: str, password: str, **userinfo: Any) -> dict[str, str]:
        """Add a user, and return the headers with which a client logs in as them.

        :param userinfo: fields of userinfo, such as ``loginName``; each has a default.
        """
        known = {
            "username": user_name,
            "loginName": user_name,
            "cmeUserName": user_name,
            "contactCenterId": self.contact_center_id,
            "environmentId": "environment-1",
            "dbid": next(self._dbids),
            "authorities": ["ROLE_AGENT"],
        }
        self._people[user_name.casefold()] = _Person(password, known | userinfo)
        return {"Authorization": basic_authorization(user_name, password)}

    def alter(self, **userinfo: Any) -> None:
        """Change fields of every userinfo until ``repair()``; ``None`` is sent as null."""
        self._changes = userinfo

    def repair(self) -> None:
        """Answer normally again."""
        super().repair()
        self._changes = {}

    def respond(self, request: Request) -> Response:
        """Answer by path; anything else is 404."""
        if request.path.endswith(TOKEN_PATH) and request.method == "POST":
            return self._grant(request)
        if request.path.endswith(USERINFO_PATH) and request.method == "GET":
            return self._userinfo(request)
        return json_response({"error": "not_found"}, 404)

    def _grant(self, request: Request) -> Response:
        client = request.authorization
        good = client is not None and client.type == "basic" and client.username == self.client_id
        if client is None or not good or not hmac.compare_digest(client.password or "", self.client_secret):
            return json_response({"error": "invalid_client"}, 401)
        if request.form.get("client_id") != self.client_id:
            return json_response({"error": "invalid_request"}, 400)
        if request.form.get("grant_type") != "password":
            return json_response({"error": "unsupported_grant_type"}, 400)
        person = self._verify(request.form.get("username", ""), request.form.get("password", ""))
        if person is None:
            return self._refuse()
        token = secrets.token_urlsafe(32)
        self._tokens[token] = person
        while len(self._tokens) > _MAX_TOKENS:
            self._tokens.popitem(last=False)
        return json_response(
            {
                "access_token": token,
                "token_type": "bearer",
                "expires_in": 43199,
                "scope": "*",
                "user": {"cmeUserName": person.userinfo["cmeUserName"]},
            }
        )

    def _verify(self, user_name: str, password: str) -> _Person | None:
        tenant, _, name = user_name.partition("\\")
        person = self._people.get(name.casefold())
        if tenant != self.tenant or person is None:
            return None
        if self.lock_after and person.failures >= self.lock_after:
            return None
        if not hmac.compare_digest(password.encode(), person.password.encode()):
            person.failures += 1
            return None
        person.failures = 0
        return person

    def _refuse(self) -> Response:
        if self.status_errors:
            return json_response({"status": {"code": UNAUTHORIZED, "message": "Unauthorized"}}, 401)
        return json_response({"error": "invalid_grant", "error_description": "Bad credentials"}, 400)

    def _userinfo(self, request: Request) -> Response:
        bearer = request.authorization
        person = self._tokens.get(bearer.token or "") if bearer is not None and bearer.type == "bearer" else None
        if person is None:
            return json_response({"error": "invalid_token"}, 401)
        return json_response(person.userinfo | self._changes)
