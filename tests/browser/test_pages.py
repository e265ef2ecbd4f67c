"""Every page at two widths and in both colour schemes: axe-core finds nothing above minor, nothing scrolls sideways."""

from __future__ import annotations

import pytest

from ..sample.running import RunningSample
from .chromium import Browser

ANONYMOUS = {
    "/": "Hello, anonymous",
    "/login?next=/agent": "Sign in",
    "/agent": "Choose who you are",
    "/signed-out": "You are not signed in",
    "/saml/acme/signed-out": "You are not signed in",
    "/saml/acme/complete?code=unknown": "Signing in did not work",
}
WENDY = {
    "/": "Hello, Wendy Services",
    "/agent": "Agent desk",
    "/supervisor": "No permission",
    "/saml/acme/logout": "Sign out?",
}


def check(browser: Browser, heading: str) -> None:
    assert browser.heading == heading
    assert not browser.scrolls_sideways(), browser.url
    # What axe-core itself asks of the page is no complaint of ours.
    assert browser.complaints() == [], browser.url
    assert browser.findings() == [], browser.url
    browser.complaints()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_page_reads_well(sample: RunningSample, browser: Browser, width: int, scheme: str) -> None:
    browser.look(width=width, scheme=scheme)
    for path, heading in ANONYMOUS.items():
        browser.open(sample.url + path)
        check(browser, heading)

    wendy = sample.ready["credentials"]["web_services"]
    browser.open(sample.url + "/login")
    browser.fill(user_name=wendy["user_name"], password="wrong")
    browser.press("Sign in")
    check(browser, "Sign in")
    browser.fill(password=wendy["password"])
    browser.press("Sign in")
    for path, heading in WENDY.items():
        browser.open(sample.url + path)
        check(browser, heading)

    ada = sample.ready["credentials"]["administrator"]
    browser.open(sample.url + "/login")
    browser.fill(user_name=ada["user_name"], password=ada["password"])
    browser.press("Sign in")
    browser.open(sample.url + "/supervisor")
    check(browser, "Supervisor board")
