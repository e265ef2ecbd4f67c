"""A browser without scripts: it keeps cookies, follows redirects and fills in forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3


@dataclass
class Form:
    """A form of a page; a button counts only when it is pressed."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    url: str
    status: int
    text: str
    headers: dict[str, str]

    @property
    def form(self) -> Form:
        """The first form of the page."""
        parser = _Forms(self.url)
        parser.feed(self.text)
        assert parser.forms, self.text
        return parser.forms[0]


class _Forms(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            action = urljoin(self._url, values.get("action", ""))
            self.forms.append(Form(action, values.get("method", "get").lower()))
        elif tag == "input" and self.forms and "name" in values and values.get("type") != "submit":
            self.forms[-1].fields[values["name"]] = values.get("value", "")


class PlainBrowser:
    """One person's browser.

    :param stop_at: addresses that begin like this are not asked for: their redirect or form is what is returned.
    :param ca_file: the certificate to trust, instead of the system's.
    """

    def __init__(self, stop_at: str = "", *, ca_file: Path | None = None) -> None:
        self._pool = urllib3.PoolManager(retries=False, timeout=60, ca_certs=str(ca_file) if ca_file else None)
        self._cookies: dict[str, dict[str, str]] = {}
        self._stop_at = stop_at

    def close(self) -> None:
        self._pool.clear()

    def cookies(self, url: str) -> dict[str, str]:
        """Return a copy of the cookies for the host of this URL."""
        return dict(self._cookies.get(urlsplit(url).hostname or "", {}))

    def get(self, url: str) -> Page:
        return self._ask("GET", url)

    def submit(self, form: Form, **fields: str) -> Page:
        return self._ask(form.method.upper(), form.action, {**form.fields, **fields})

    def _ask(self, method: str, url: str, fields: dict[str, str] | None = None) -> Page:
        for _ in range(15):
            page = self._once(method, url, fields)
            if page.status not in {301, 302, 303, 307} or "location" not in page.headers:
                return page
            url, method, fields = urljoin(page.url, page.headers["location"]), "GET", None
            if self._stop_at and url.startswith(self._stop_at):
                return page
        raise AssertionError(f"too many redirects, the last to {url}")

    def _once(self, method: str, url: str, fields: dict[str, str] | None) -> Page:
        host = urlsplit(url).hostname or ""
        jar = self._cookies.setdefault(host, {})
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())} if jar else {}
        body = None
        if fields is not None and method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(fields)
        elif fields is not None:
            url = f"{url}?{urlencode(fields)}"
        answer = self._pool.request(method, url, headers=headers, body=body, redirect=False)
        for line in answer.headers.getlist("Set-Cookie"):
            for name, morsel in SimpleCookie(line).items():
                jar[name] = morsel.value
        lowered = {name.lower(): value for name, value in answer.headers.items()}
        return Page(url, answer.status, answer.data.decode(), lowered)
