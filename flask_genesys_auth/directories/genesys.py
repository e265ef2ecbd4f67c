"""Verifies user names and passwords with Genesys' Authentication REST.

It sends a password grant (RFC 6749 4.3) to ``{url}/auth/v3/oauth/token``, and the token to ``{url}/auth/v3/userinfo``.
"""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from marshmallow import fields, validate

from ..chain.outcomes import Reason, Rejected, Unavailable
from ..chain.protocols import DirectoryEntry
from ..checks import Check
from ..upstream import Answer, Deadline, Upstream, Upstreams, Visit, probe, reach_check
from .answers import Identifier, answer_schema, known_text, optional_text, read_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.settings import ConfigurationServer

TOKEN_PATH = "/auth/v3/oauth/token"  # noqa: S105 - an address, not a token
USERINFO_PATH = "/auth/v3/userinfo"
UNAUTHORIZED = 603
"""Genesys' code for a wrong user name or password."""

# The error codes of RFC 6749 5.2 and 4.1.2.1 that say nothing about the user.
_CLIENT_ERRORS = frozenset(
    {"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_request"}
)
_SERVER_ERRORS = frozenset({"server_error", "temporarily_unavailable"})
_TOKEN = re.compile(r"[!-~]+\Z")
_ERROR_CODE = re.compile(r"[a-z_]{1,40}")

_GRANT = answer_schema(
    access_token=fields.String(required=True, validate=validate.Regexp(_TOKEN)),
    user=fields.Nested(answer_schema(cmeUserName=optional_text()), load_default=None, allow_none=True),
)
_USERINFO = answer_schema(
    username=optional_text(),
    loginName=optional_text(),
    cmeUserName=optional_text(),
    contactCenterId=optional_text(),
    environmentId=optional_text(),
    dbid=Identifier(load_default=None, allow_none=True),
    email=optional_text(),
    firstName=optional_text(),
    lastName=optional_text(),
)
_ERROR = answer_schema(
    error=optional_text(),
    status=fields.Nested(
        answer_schema(code=fields.Integer(required=True, strict=True)), load_default=None, allow_none=True
    ),
)


class GenesysDirectory:
    """A contact center's Configuration Server behind Genesys' Authentication REST."""

    def __init__(self, settings: ConfigurationServer, upstream: Upstream | None = None) -> None:
        self._settings = settings
        self._upstream = upstream or Upstreams().of(settings)
        self._base = settings.url.rstrip("/")

    def verify(self, user_name: str, password: str) -> DirectoryEntry | Rejected | Unavailable:
        r"""Verify a user name and a password; both calls end within the step's ``timeout``.

        :param user_name: as looked up; it is sent as ``tenant\user``.
        """
        # Each tenant behind one Authentication REST has a Configuration Server of its own, which may be down alone.
        visit = self._upstream.visit(self._base, Deadline(self._settings.timeout), part=self._settings.tenant)
        if isinstance(visit, Unavailable):
            return visit
        with visit:
            grant = self._grant(visit, user_name, password)
            if isinstance(grant, (Rejected, Unavailable)):
                return grant
            found = self._userinfo(visit, grant["access_token"])
        if isinstance(found, Unavailable):
            return replace(found, uncounted=True)  # The password was good.
        return self._entry(grant, found)

    def checks(self) -> Iterator[Check]:
        """Yield whether the Authentication REST is reachable, and whether it accepts our client's credentials.

        The check requests a token for the client itself (RFC 6749 4.4), which needs no user, and drops the token.
        """
        settings = self._settings
        form = urlencode({"grant_type": "client_credentials", "client_id": settings.client_id}).encode()
        url, headers = self._base + TOKEN_PATH, self._client_headers()
        outcome, status, taken = probe(
            self._upstream, "POST", url, seconds=settings.timeout, headers=headers, body=form
        )
        name = "configuration_server.genesys"
        yield reach_check(name, self._base, outcome, status, taken, settings.timeout)
        if isinstance(outcome, Answer):
            yield _client_check(f"{name}.client", outcome)

    def _entry(self, grant: dict[str, Any], found: dict[str, Any]) -> DirectoryEntry | Rejected:
        wanted = self._settings.contact_center_id
        if wanted and found["contactCenterId"] != wanted:
            return Rejected(Reason.OTHER_TENANT, "contactCenterId is not configuration_server.contact_center_id")
        return DirectoryEntry(
            known_text(
                username=found["username"],
                login_name=found["loginName"],
                cme_user_name=found["cmeUserName"] or (grant["user"] or {}).get("cmeUserName"),
                identity=found["dbid"],
                contact_center_id=found["contactCenterId"],
                environment_id=found["environmentId"],
                email=found["email"],
                first_name=found["firstName"],
                last_name=found["lastName"],
            )
        )

    def _grant(self, visit: Visit, user_name: str, password: str) -> dict[str, Any] | Rejected | Unavailable:
        settings = self._settings
        tenant = f"{settings.tenant}\\" if settings.tenant else ""
        form = {
            "grant_type": "password",
            "client_id": settings.client_id,
            "scope": "*",
            "username": tenant + user_name,
            "password": password,
        }
        answer = visit.send(
            "POST", self._base + TOKEN_PATH, headers=self._client_headers(), body=urlencode(form).encode()
        )
        if isinstance(answer, Unavailable):
            return answer
        if answer.status == 200:
            found = read_answer(_GRANT, answer)
            return replace(found, uncounted=True) if isinstance(found, Unavailable) else found
        if answer.status in {400, 401, 403}:
            return _read_error(answer)
        return _unexpected(answer, TOKEN_PATH)

    def _client_headers(self) -> dict[str, str]:
        settings = self._settings
        client = base64.b64encode(f"{settings.client_id}:{settings.client_secret.reveal()}".encode()).decode()
        return {
            "Authorization": f"Basic {client}",
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }

    def _userinfo(self, visit: Visit, token: str) -> dict[str, Any] | Unavailable:
        answer = visit.send(
            "GET",
            self._base + USERINFO_PATH,
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
        )
        if isinstance(answer, Unavailable):
            return answer
        # Even 401 says nothing about the user here, because the token is new.
        return read_answer(_USERINFO, answer) if answer.status == 200 else _unexpected(answer, USERINFO_PATH)


def _client_check(name: str, answer: Answer) -> Check:
    """Return whether the server accepts the client's credentials; a client without this grant type is known, too."""
    found = read_answer(_ERROR, answer)
    error = "" if isinstance(found, Unavailable) else found["error"] or ""
    if error == "invalid_client" or answer.status == 401:
        finding = f"HTTP {answer.status}: Genesys rejects client_id and client_secret, so users cannot log in"
        return Check(name, "failure", finding, "correct configuration_server.client_id and client_secret")
    if answer.status == 200 or error in _CLIENT_ERRORS:
        return Check(name, "ok", "Genesys accepts client_id and client_secret")
    if 300 <= answer.status < 400 or answer.status == 404:
        finding = f"HTTP {answer.status} at {TOKEN_PATH}: this is not an Authentication REST"
        return Check(name, "failure", finding, "correct configuration_server.url: the part before /auth/v3")
    return Check(name, "warning", f"HTTP {answer.status} does not show whether Genesys knows the client", "try a login")


def _read_error(answer: Answer) -> Rejected | Unavailable:
    """Return whether the server rejects the user or our client: a faulty setup must not look like a wrong password."""
    found = read_answer(_ERROR, answer)
    if isinstance(found, Unavailable):
        return found
    code = found["status"]["code"] if found["status"] else None
    error = found["error"] or ""
    if error in _CLIENT_ERRORS:
        detail = f"{error}: check configuration_server.client_id, client_secret and the rights of this client"
        return Unavailable(Reason.SERVER_ERROR, detail=detail, uncounted=True)
    if error in _SERVER_ERRORS:
        return Unavailable(Reason.SERVER_ERROR, detail=f"{error} (HTTP {answer.status})", uncounted=True)
    if error or code == UNAUTHORIZED:
        shown = error if _ERROR_CODE.fullmatch(error) else "an unusual OAuth error"
        return Rejected(Reason.BAD_CREDENTIALS, shown if error else f"status code {UNAUTHORIZED}")
    said = "no error" if code is None else f"status code {code}"
    return Unavailable(Reason.SERVER_ERROR, detail=f"HTTP {answer.status} with {said} at {TOKEN_PATH}")


def _unexpected(answer: Answer, path: str) -> Unavailable:
    if 200 <= answer.status < 400:
        detail = f"HTTP {answer.status} at {path}, redirects are not followed"
        return Unavailable(Reason.UNREADABLE_ANSWER, detail=detail, uncounted=True)
    detail = f"HTTP {answer.status} at {path}: check configuration_server.url"
    return Unavailable(Reason.SERVER_ERROR, detail=detail, uncounted=True)
