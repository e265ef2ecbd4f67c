"""Every page at two widths, in both colour schemes, zoomed and in forced colours.

axe-core finds nothing above minor, nothing scrolls sideways, everything is large enough to be hit.
"""

from __future__ import annotations

from typing import Any

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
    assert browser.small_targets() == [], browser.url
    assert browser.lost_in_forced_colours() == [], browser.url
    # What axe-core itself asks of the page is no complaint of ours.
    assert browser.complaints() == [], browser.url
    assert browser.findings() == [], browser.url
    browser.complaints()


LOOKS: dict[str, dict[str, Any]] = {
    "360-dark": {"width": 360, "scheme": "dark"},
    "1280-light": {"width": 1280, "scheme": "light"},
    # What is left of 1280 pixels at 400 % (WCAG 1.4.10).
    "1280-zoomed-four-times": {"width": 1280, "scheme": "light", "zoom": 4},
    "1280-forced-light": {"width": 1280, "scheme": "light", "forced": True},
    "360-forced-dark": {"width": 360, "scheme": "dark", "forced": True},
}


@pytest.mark.parametrize(
    ("css", "lost"),
    [
        ("* { forced-color-adjust: none; color: white !important; background: white !important }", "text"),
        ("* { border: none !important }", "border"),
        ("* { outline: none !important }", "focus"),
        ("* { forced-color-adjust: none } :focus-visible { outline-color: white !important }", "focus"),
    ],
)
@pytest.mark.parametrize("path", ["/login", "/saml/acme/signed-out"])
def test_forced_colours_check_finds_lost_content(
    sample: RunningSample, browser: Browser, path: str, css: str, lost: str
) -> None:
    browser.look(width=1280, scheme="light", forced=True)
    browser.open(sample.url + path)
    assert browser.lost_in_forced_colours() == []
    browser.add_style(css)
    assert lost in {one.partition(":")[0] for one in browser.lost_in_forced_colours()}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_every_page_reads_well(sample: RunningSample, browser: Browser, look: dict[str, Any]) -> None:
    browser.look(**look)
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
