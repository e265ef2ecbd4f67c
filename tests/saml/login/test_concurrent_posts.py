"""One response gives one login, also when several processes receive it at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask

from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.testing.saml_messages import SigningKey, provider_metadata
from flask_genesys_auth.web.runtime import runtime

from ..addresses import IDP, SSO
from ..application import ANN, Browser
from ..racing import make_app

ROOT = Path(__file__).parents[3]
Answers = list[tuple[int, str, bool]]


@pytest.fixture
def settings(tmp_path: Path, key: SigningKey) -> dict[str, str]:
    (tmp_path / "idp.xml").write_text(provider_metadata(IDP, SSO, (key.certificate,)))
    return {
        "state": f"sqlite:///{tmp_path / 'state.sqlite3'}",
        "accounts": f"sqlite:///{tmp_path / 'accounts.sqlite3'}",
        "metadata": str(tmp_path / "idp.xml"),
    }


@pytest.fixture
def shared_app(settings: dict[str, str]) -> Iterator[Flask]:
    """An application on the files that the processes share."""
    app = make_app(settings)
    store = runtime(app).accounts
    assert isinstance(store, SqlAccounts)
    store.create_tables()
    store.link(store.add("acme", ANN).id, "okta", ANN)
    yield app
    store.close()
    runtime(app).state.close()


def race(settings: dict[str, str], request: dict[str, Any], *, processes: int, threads: int) -> Answers:
    """Let every thread of every process send the request at once."""
    with ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.saml.racing"],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(processes)
        ]
        order = json.dumps({"settings": settings, "request": request, "threads": threads})
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(f"{order}\n")
            racer.stdin.flush()
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        told = [racer.communicate(timeout=300) for racer in racers]
    for racer, (_, log) in zip(racers, told, strict=True):
        print(log)  # noqa: T201 - pytest shows it where the test fails
        assert racer.returncode == 0
    return [(status, location, cookie) for answers, _ in told for status, location, cookie in json.loads(answers)]


def test_parallel_posts_give_one_code_and_one_login(
    settings: dict[str, str], shared_app: Flask, key: SigningKey
) -> None:
    browser = Browser(shared_app, key)
    request, relay_state = browser.begin()
    fields = {"SAMLResponse": browser.message(request).encoded(key), "RelayState": relay_state}
    posted = race(settings, {"method": "POST", "path": f"{browser.base}/acs", "data": fields}, processes=5, threads=10)
    codes = [location for status, location, _ in posted if status == 303]
    assert len(codes) == 1
    assert [status for status, _, _ in posted].count(400) == 49
    assert not any(cookie for _, _, cookie in posted)

    address = urlsplit(codes[0])
    kept = browser.client.get_cookie("session", domain=urlsplit(browser.url).hostname or "")
    assert kept is not None
    completing = {"method": "GET", "path": f"{address.path}?{address.query}", "cookie": f"session={kept.value}"}
    completed = race(settings, completing, processes=4, threads=5)
    assert sorted(status for status, _, _ in completed) == [303] + [400] * 19
    assert [location for status, location, _ in completed if status == 303] == ["/private"]
    assert runtime(shared_app).sessions.revoke(contact_center="acme") == 1
