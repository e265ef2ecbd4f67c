"""Real HTTP requests, also those that a printed ``curl`` line stands for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import urllib3


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.text)


def ask(url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: str | None = None) -> Answer:
    """Send one request; redirects are not followed."""
    with urllib3.PoolManager() as pool:
        answer = pool.request(
            method, url, headers=dict(headers or {}), body=body, redirect=False, retries=False, timeout=60
        )
        return Answer(answer.status, answer.headers, answer.data.decode())


def ask_like_curl(line: str) -> Answer:
    """Send what a ``curl`` line with ``-H``, ``-u`` and ``-i`` says."""
    words = iter(shlex.split(line))
    assert next(words) == "curl"
    headers: dict[str, str] = {}
    url = ""
    for word in words:
        if word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-u":
            headers |= urllib3.make_headers(basic_auth=next(words))
        elif not word.startswith("-"):
            url = word
        else:
            assert word in {"-sS", "-i"}, word
    return ask(url, headers=headers)
