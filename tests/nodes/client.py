"""One client of a portal: a connection that is kept, an address of its own, and cookies where it keeps any."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from http.cookies import SimpleCookie
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from typing_extensions import Self

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class Client:
    """Asks one server, one request at a time; redirects are not followed.

    :param url: of the server.
    :param ca_file: the certificate to trust.
    :param address: of this machine's, from which it comes: all of 127.0.0.0/8 is.
    :param headers: sent with every request.
    :param timeout: seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        address: str = "127.0.0.1",
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> None:
        parts = urlsplit(url)
        self._headers = dict(headers or {})
        self.cookies: dict[str, str] = {}
        self._connection: HTTPConnection
        place = (parts.hostname or "", parts.port)
        if parts.scheme == "https":
            trusting = ssl.create_default_context(cafile=str(ca_file))
            self._connection = HTTPSConnection(*place, timeout=timeout, source_address=(address, 0), context=trusting)
        else:
            self._connection = HTTPConnection(*place, timeout=timeout, source_address=(address, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request, a form by POST.

        :raises OSError: if no answer came; ``http.client.HTTPException`` if none that is whole.
        """
        sent = {**self._headers, **(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = None
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(form)
        try:
            self._connection.request("GET" if form is None else "POST", path, body, sent)
            found = self._connection.getresponse()
            answer = Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        except BaseException:
            self._connection.close()
            raise
        for line in found.headers.get_all("Set-Cookie") or ():
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
        return answer

    def log_in(self, user_name: str, password: str) -> Answer:
        """Send the login form; the cookie that it sets is kept."""
        return self.ask("/login", headers=SAME_ORIGIN, form={"user_name": user_name, "password": password, "next": "/"})

    def log_out(self) -> Answer:
        """Send the form that ends the login session."""
        return self.ask("/logout", headers=SAME_ORIGIN, form={})

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()
