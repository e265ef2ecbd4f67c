"""The tutorial, followed word for word: from an empty folder and the built wheel to Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.chromium import Browser
from tests.servers import free_port

from .pages import Reader

pytestmark = pytest.mark.network


def test_tutorial_works_word_for_word(built: Path, tmp_path: Path, browser: Browser) -> None:
    (wheel,) = built.glob("*.whl")
    (tmp_path / "constraints.txt").write_text(f"flask-genesys-auth @ {wheel.as_uri()}\n", "utf-8")
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {"PIP_CONSTRAINT": str(tmp_path / "constraints.txt"), "PIP_QUIET": "1"}
    ports = {5000: free_port(), 5001: free_port()}
    with Reader("tutorial.md", folder, ports=ports, environment=environment) as reader:
        (hello,) = (block for block in reader.left if "the page says" in block.said)
        reader.follow(reader.left.index(hello))

        browser.open(reader.here("http://127.0.0.1:5000/"))
        browser.wait_for("Choose who you are")
        browser.press("Sign in as ann@acme.example")
        browser.wait_for_text(hello.text.strip())
        assert browser.url == reader.here("http://127.0.0.1:5000/")

        browser.open(reader.here("http://127.0.0.1:5000/saml/acme/logout"))
        browser.press("Sign out")
        browser.press("Sign in again")
        browser.press("Sign in as eve@acme.example")
        browser.wait_for("Signing in did not work")

        reader.follow()
