"""A SAML login without a browser and without a network, with a genuine or a changed response."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from werkzeug.test import Client, EnvironBuilder
from werkzeug.wrappers import Request

from .service_providers import AuthnRequest, read_request

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from .identity_provider import DevelopmentIdentityProvider
    from .saml_messages import Message, SigningKey

_HERE = {"REMOTE_ADDR": "127.0.0.1"}
_NAVIGATION = {"Sec-Fetch-Mode": "navigate"}


@dataclass(frozen=True, slots=True)
class Form:
    """A form of a page, with its hidden fields."""

    action: str
    fields: dict[str, str]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(Form(values.get("action", ""), {}))
        elif tag == "input" and self.found and values.get("type") == "hidden":
            self.found[-1].fields[values["name"]] = values.get("value", "")


def form_of(page: str) -> Form | None:
    """Return the first form of a page, or ``None``."""
    parser = _Forms()
    parser.feed(page)
    return parser.found[0] if parser.found else None


class SamlLogin:
    """A login that a client has begun, waiting for the provider's response.

    Requests to the application use paths only, so ``public_url`` may have any value.

    :param client: a client of the application, logged in at the end.
    :param provider: one that the application trusts.
    :param contact_center: the table's name.
    :param idp: the provider's name in the configuration, if there are several.
    :param return_to: the local path after the login.
    :raises AssertionError: if the application does not start a login.
    """

    def __init__(
        self,
        client: FlaskClient,
        provider: DevelopmentIdentityProvider,
        *,
        contact_center: str,
        idp: str = "",
        return_to: str = "/",
    ) -> None:
        self.client = client
        self.provider = provider
        self._base = f"{_prefix(client)}/{contact_center}"
        query = {"next": return_to, **({"idp": idp} if idp else {})}
        answer = client.get(f"{self._base}/login", query_string=query, headers=_NAVIGATION)
        sent = _sent_on(answer)
        if sent is None:
            raise AssertionError(f"the application did not start a login: {answer.status}: {answer.text[:300]}")
        self._address, self._fields = sent
        self.asked: AuthnRequest = read_request(*self._request())

    @property
    def relay_state(self) -> str:
        """RelayState of the request, to be returned with the response."""
        return self.asked.relay_state

    def message(self, user: str) -> Message:
        """Return the genuine response for a user of the provider; change it with ``but()``.

        :raises LookupError: if the provider has no such user.
        """
        asked = self.asked
        return self.provider.message(user, acs_url=asked.acs_url, audience=asked.issuer, request_id=asked.request_id)

    def finish(self, user: str) -> TestResponse:
        """Log in on the provider's pages and return to the application.

        :returns: the application's last response: the redirect to ``return_to``, or a refusal.
        :raises LookupError: if the provider has no such user.
        """
        self.provider.person(user)
        self.provider.add_service_provider(self.client.get(f"{self._base}/metadata").data)
        browser = Client(self.provider)
        address = urlsplit(self._address)
        if self._fields:
            page = browser.post(address.path, data=self._fields, environ_overrides=_HERE)
        else:
            page = browser.get(address.path, query_string=address.query, environ_overrides=_HERE)
        chosen = _form(page)
        page = browser.post(chosen.action, data={**chosen.fields, "user": user}, environ_overrides=_HERE)
        return self._post(_form(page).fields)

    def answer(self, message: Message | str, *, key: SigningKey | None = None) -> TestResponse:
        """Post a message of the test's own.

        :param message: signed here; a string is posted unchanged.
        :param key: the signing key; default: the provider's.
        :returns: as :meth:`finish`.
        """
        encoded = message if isinstance(message, str) else message.encoded(key or self.provider.key)
        return self._post({"SAMLResponse": encoded, "RelayState": self.relay_state})

    def _post(self, fields: dict[str, str]) -> TestResponse:
        """Post like a page of another site, without cookies (SameSite=Lax)."""
        stranger = self.client.application.test_client(use_cookies=False)
        headers = {**_NAVIGATION, "Sec-Fetch-Site": "cross-site"}
        answer = stranger.post(f"{self._base}/acs", data=fields, headers=headers)
        location = urlsplit(answer.headers.get("Location", ""))
        if answer.status_code != 303 or location.path != f"{self._base}/complete":
            return answer
        return self.client.get(location.path, query_string=location.query, headers=_NAVIGATION)

    def _request(self) -> tuple[Request, str]:
        if self._fields:
            return Request(EnvironBuilder(method="POST", data=self._fields).get_environ()), "post"
        return Request(EnvironBuilder(query_string=urlsplit(self._address).query).get_environ()), "redirect"


def _prefix(client: FlaskClient) -> str:
    from ..web.runtime import runtime

    return runtime(client.application).settings.saml_url_prefix


def _sent_on(answer: TestResponse) -> tuple[str, dict[str, str]] | None:
    """Return the URL that a response sends the browser to, and the fields of its form, if any."""
    if answer.status_code == 302 and "SAMLRequest=" in answer.headers["Location"]:
        return answer.headers["Location"], {}
    form = form_of(answer.text) if answer.status_code == 200 else None
    return (form.action, form.fields) if form is not None and "SAMLRequest" in form.fields else None


def _form(page: TestResponse) -> Form:
    found = form_of(page.text)
    if found is None:
        raise AssertionError(f"the provider's page has no form: {page.status}: {page.text[:300]}")
    return found
