"""Asks Genesys' Authentication REST whether a user name and a password belong together.

A password grant (RFC 6749 4.3) at ``{url}/auth/v3/oauth/token``, then ``{url}/auth/v3/userinfo`` with its token.
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
from ..upstream import Answer, Deadline, Upstream, Upstreams, Visit, ask, reach_check
from .answers import AnswerSchema, Identifier, known_text, optional_text, read_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.settings import ConfigurationServer

TOKEN_PATH = "/auth/v3/oauth/token"  # noqa: S105 - an address, not a token
USERINFO_PATH = "/auth/v3/userinfo"
UNAUTHORIZED = 603
"""Genesys' own code for a name and a password that do not belong together."""

# RFC 6749 5.2 and 4.1.2.1: what says nothing of the person, but of us or of the server.
_OUR_FAULT = frozenset(
    {"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_request"}
)
_THEIR_FAULT = frozenset({"server_error", "temporarily_unavailable"})
_TOKEN = re.compile(r"[!-~]+\Z")
_ERROR_CODE = re.compile(r"[a-z_]{1,40}")


class _GrantUserSchema(AnswerSchema):
    cme_user_name = fields.String(data_key="cmeUserName", load_default=None, allow_none=True)


class _GrantSchema(AnswerSchema):
    access_token = fields.String(required=True, validate=validate.Regexp(_TOKEN))
    user = fields.Nested(_GrantUserSchema, load_default=None, allow_none=True)


class _UserInfoSchema(AnswerSchema):
    username = optional_text()
    login_name = fields.String(data_key="loginName", load_default=None, allow_none=True)
    cme_user_name = fields.String(data_key="cmeUserName", load_default=None, allow_none=True)
    contact_center_id = fields.String(data_key="contactCenterId", load_default=None, allow_none=True)
    environment_id = fields.String(data_key="environmentId", load_default=None, allow_none=True)
    dbid = Identifier(load_default=None, allow_none=True)
    email = optional_text()
    first_name = fields.String(data_key="firstName", load_default=None, allow_none=True)
    last_name = fields.String(data_key="lastName", load_default=None, allow_none=True)


class _StatusSchema(AnswerSchema):
    code = fields.Integer(required=True, strict=True)


class _RefusalSchema(AnswerSchema):
    error = optional_text()
    status = fields.Nested(_StatusSchema, load_default=None, allow_none=True)


_GRANT = _GrantSchema()
_USERINFO = _UserInfoSchema()
_REFUSAL = _RefusalSchema()


class GenesysDirectory:
    """A contact center's Configuration Server, by way of Genesys' Authentication REST.

    :param settings: of this contact center.
    :param upstream: the HTTP client; default: one of its own.
    """

    def __init__(self, settings: ConfigurationServer, upstream: Upstream | None = None) -> None:
        self._settings = settings
        self._upstream = upstream or Upstreams().of(settings)
        self._base = settings.url.rstrip("/")

    def verify(self, user_name: str, password: str) -> DirectoryEntry | Rejected | Unavailable:
        r"""Ask whether they belong together; both calls end within the step's time-out, the token ends here.

        :param user_name: as looked up; it is sent as ``tenant\user``.
        """
        # Behind one Authentication REST each tenant has a Configuration Server of its own, which may be down alone.
        visit = self._upstream.visit(self._base, Deadline(self._settings.timeout), part=self._settings.tenant)
        if isinstance(visit, Unavailable):
            return visit
        with visit:
            grant = self._grant(visit, user_name, password)
            if isinstance(grant, (Rejected, Unavailable)):
                return grant
            found = self._userinfo(visit, grant["access_token"])
        if isinstance(found, Unavailable):
            # The grant has found the password good.
            return replace(found, uncounted=True)
        return self._entry(grant, found)

    def checks(self) -> Iterator[Check]:
        """Yield whether the Authentication REST can be reached, and whether it takes our client's credentials.

        It is asked for a token of the client itself (RFC 6749 4.4), which names no person; what it grants ends here.
        """
        settings = self._settings
        form = urlencode({"grant_type": "client_credentials", "client_id": settings.client_id}).encode()
        outcome, status, taken = ask(
            self._upstream,
            "POST",
            self._base + TOKEN_PATH,
            seconds=settings.timeout,
            headers=self._client_headers(),
            body=form,
        )
        name = "configuration_server.genesys"
        yield reach_check(name, self._base, outcome, status, taken, settings.timeout)
        if isinstance(outcome, Answer):
            yield _client_check(f"{name}.client", outcome)

    def _entry(self, grant: dict[str, Any], found: dict[str, Any]) -> DirectoryEntry | Rejected:
        wanted = self._settings.contact_center_id
        if wanted and found["contact_center_id"] != wanted:
            return Rejected(Reason.OTHER_TENANT, "contactCenterId is not configuration_server.contact_center_id")
        of_grant = grant["user"] or {}
        return DirectoryEntry(
            known_text(
                username=found["username"],
                login_name=found["login_name"],
                cme_user_name=found["cme_user_name"] or of_grant.get("cme_user_name"),
                identity=found["dbid"],
                contact_center_id=found["contact_center_id"],
                environment_id=found["environment_id"],
                email=found["email"],
                first_name=found["first_name"],
                last_name=found["last_name"],
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
            return _refusal(answer)
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
        # Even 401 says nothing of the person here: the token is a moment old.
        return read_answer(_USERINFO, answer) if answer.status == 200 else _unexpected(answer, USERINFO_PATH)


def _client_check(name: str, answer: Answer) -> Check:
    """Say what an answer to the client's own credentials tells: a client that may not do this is a client it knows."""
    found = read_answer(_REFUSAL, answer)
    error = "" if isinstance(found, Unavailable) else found["error"] or ""
    if error == "invalid_client" or answer.status == 401:
        finding = f"HTTP {answer.status}: it refuses client_id with client_secret, so nobody can log in there"
        return Check(name, "failure", finding, "correct configuration_server.client_id and client_secret")
    if answer.status == 200 or error in _OUR_FAULT:
        return Check(name, "ok", "it knows the client")
    if 300 <= answer.status < 400 or answer.status == 404:
        finding = f"HTTP {answer.status} at {TOKEN_PATH}: that is no Authentication REST"
        return Check(name, "failure", finding, "correct configuration_server.url: what stands before /auth/v3")
    return Check(name, "warning", f"HTTP {answer.status} does not tell whether it knows the client", "try a login")


def _refusal(answer: Answer) -> Rejected | Unavailable:
    """Tell a refused person from a refused client: a mistake of our set-up must not read as a wrong password."""
    found = read_answer(_REFUSAL, answer)
    if isinstance(found, Unavailable):
        return found
    code = found["status"]["code"] if found["status"] else None
    error = found["error"] or ""
    if error in _OUR_FAULT:
        return Unavailable(
            Reason.SERVER_ERROR,
            uncounted=True,
            detail=f"{error}: look at configuration_server.client_id, client_secret and what this client is allowed",
        )
    if error in _THEIR_FAULT:
        return Unavailable(Reason.SERVER_ERROR, detail=f"{error} (HTTP {answer.status})", uncounted=True)
    if error or code == UNAUTHORIZED:
        shown = error if _ERROR_CODE.fullmatch(error) else "an unusual OAuth error"
        return Rejected(Reason.BAD_CREDENTIALS, shown if error else f"status code {UNAUTHORIZED}")
    said = "no error" if code is None else f"status code {code}"
    return Unavailable(Reason.SERVER_ERROR, detail=f"HTTP {answer.status} with {said} at {TOKEN_PATH}")


def _unexpected(answer: Answer, path: str) -> Unavailable:
    if 200 <= answer.status < 400:
        return Unavailable(
            Reason.UNREADABLE_ANSWER,
            detail=f"HTTP {answer.status} at {path}, redirects are not followed",
            uncounted=True,
        )
    detail = f"HTTP {answer.status} at {path}: look at configuration_server.url"
    return Unavailable(Reason.SERVER_ERROR, detail=detail, uncounted=True)
