"""Signing in and out in a real browser, with the identity provider on another site."""

from __future__ import annotations

from urllib.parse import urlsplit

import urllib3

from ..sample.running import RunningSample
from .chromium import Browser

SIMON = "Sign in as simon@acme.example"


def test_saml_login_reaches_page_and_logout_ends_it(sample: RunningSample, browser: Browser) -> None:
    browser.open(sample.url + "/agent?shift=late")
    assert browser.host == urlsplit(sample.ready["addresses"]["identity_provider"]).netloc
    assert browser.host.startswith("localhost:")

    browser.press(SIMON)
    browser.wait_for("Agent desk")
    assert browser.url == sample.url + "/agent?shift=late"
    assert "SAML, resumed from a login session" in browser.text

    kept = browser.cookie("session")
    browser.press("Sign out")
    browser.wait_for("You are signed out")
    assert browser.url == sample.url + "/saml/acme/signed-out"
    assert "your identity provider has confirmed" in browser.text
    assert status_with(sample, kept) != 200

    browser.open(sample.url + "/agent")
    assert browser.heading == "You are signed out"
    assert browser.host == urlsplit(sample.url).netloc

    browser.press("Sign in again")
    browser.press(SIMON)
    browser.wait_for("Agent desk")
    assert browser.url == sample.url + "/agent"


def status_with(sample: RunningSample, cookie: str) -> int:
    """Return the status of the agents' page for a client that has kept this session cookie."""
    headers = {"Cookie": f"session={cookie}", "Accept": "text/html"}
    return urllib3.request("GET", sample.url + "/agent", headers=headers, redirect=False, retries=False).status


def test_logout_at_the_provider_ends_our_session(sample: RunningSample, browser: Browser) -> None:
    browser.open(sample.url + "/agent")
    browser.press(SIMON)
    browser.wait_for("Agent desk")
    kept = browser.cookie("session")
    assert status_with(sample, kept) == 200
    browser.open(sample.ready["addresses"]["identity_provider"])
    browser.press("Sign out of the identity provider")
    browser.wait_for("Signed out")
    assert status_with(sample, kept) != 200


def test_login_started_at_provider_requires_confirmation(sample: RunningSample, browser: Browser) -> None:
    browser.open(sample.url + "/agent")
    browser.press(SIMON)
    browser.wait_for("Agent desk")
    browser.open(sample.ready["addresses"]["identity_provider"])
    browser.press(f"Go to {sample.url}/saml/acme/metadata")
    browser.press("Continue as simon@acme.example")
    browser.wait_for("Continue as simon@acme.example?")
    browser.press("Continue")
    browser.wait_for("Hello, Simon Lee")


def test_unknown_user_gets_an_error_page_with_reference(sample: RunningSample, browser: Browser) -> None:
    browser.open(sample.url + "/agent")
    browser.press("Sign in as stranger@acme.example")
    browser.wait_for("Signing in did not work")

    assert browser.host == urlsplit(sample.url).netloc
    assert "Reference" in browser.text
    assert "stranger" not in browser.text
    browser.press("Sign in")
    assert SIMON in browser.text
    browser.open(sample.url + "/")
    assert browser.heading == "Hello, anonymous"


def test_form_requires_the_right_password(sample: RunningSample, browser: Browser) -> None:
    wendy = sample.ready["credentials"]["web_services"]
    browser.open(sample.url + "/login?next=/agent")
    browser.fill(user_name=wendy["user_name"], password="wrong")
    browser.press("Sign in")
    assert "do not match an account" in browser.text

    browser.fill(password=wendy["password"])
    browser.press("Sign in")
    browser.wait_for("Agent desk")
    assert "Web Services, resumed" in browser.text

    browser.open(sample.url + "/supervisor")
    assert browser.heading == "No permission"


def test_the_form_also_leads_to_saml(sample: RunningSample, browser: Browser) -> None:
    browser.open(sample.url + "/login?next=/supervisor")
    browser.press("Sign in with SAML")
    browser.press(SIMON)
    browser.wait_for("Supervisor board")

    assert browser.url == sample.url + "/supervisor"
