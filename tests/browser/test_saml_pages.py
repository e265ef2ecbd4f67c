"""Every page of SAML at two widths and in both colour schemes: axe-core finds nothing above minor, nothing overflows.

With ``SCREENSHOTS`` set to a folder, the tests save a picture of each page there for review.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_genesys_auth.testing.identity_provider import DevelopmentIdentityProvider
from flask_genesys_auth.testing.saml_messages import SigningKey, generate_signing_key
from flask_genesys_auth.testing.server import LoopbackServer

from .chromium import Browser
from .real_desk import Desk, signing
from .test_pages import check

# As long as names get, and without a place to break.
ANN = "annabel.featherstonehaugh-cholmondeley@contact-center.acme.example"
LOOKS = {
    "360-dark": {"width": 360, "scheme": "dark"},
    "1280-light": {"width": 1280, "scheme": "light"},
    "1280-zoomed": {"width": 1280, "scheme": "dark", "zoom": 4},
    "1280-forced": {"width": 1280, "scheme": "light", "forced": True},
}


@pytest.fixture(scope="module")
def idp() -> Iterator[DevelopmentIdentityProvider]:
    made = DevelopmentIdentityProvider()
    made.add_user(ANN)
    made.add_user("Bob")
    with LoopbackServer(made, host="localhost") as server:
        made.url = server.url
        yield made


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return generate_signing_key("ours")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, idp: DevelopmentIdentityProvider, key: SigningKey) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("desk") / "desk", host="127.0.0.1")
    provider = {"metadata": idp.entity_id, "allow_unsolicited": True}
    made.open(ANN, {"identity_providers": {"idp": provider}, **signing(key)})
    yield made
    made.close()


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, idp: DevelopmentIdentityProvider) -> Iterator[Desk]:
    """Two providers, and no key: it cannot take part in single logout."""
    made = Desk(tmp_path_factory.mktemp("second") / "desk", host="localhost")
    by_post = {"metadata": idp.entity_id, "binding": "post"}
    long = "single-sign-on-of-our-contact-center-in-northern-europe"
    file = tmp_path_factory.mktemp("metadata") / "idp.xml"
    file.write_text(idp.metadata_xml.replace(idp.entity_id, "https://other.example"))
    made.open(ANN, {"identity_providers": {"idp": by_post, long: {"metadata": str(file)}}})
    yield made
    made.close()


class Page:
    """A browser that looks closely at every page it is told of."""

    def __init__(self, browser: Browser, look: str) -> None:
        self.browser = browser
        self._look = look

    def is_good(self, name: str, heading: str) -> None:
        self.browser.wait_for(heading)
        folder = os.environ.get("SCREENSHOTS")
        if folder:
            self.browser.save_screenshot(Path(folder) / f"{name}-{self._look}.png")
        check(self.browser, heading)


@pytest.fixture(params=LOOKS)
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    browser.look(**LOOKS[request.param])  # type: ignore[arg-type]  # of several types, by name
    yield Page(browser, request.param)
    browser.block()


def test_pages_on_the_way_in_read_well(page: Page, desk: Desk, second: Desk, idp: DevelopmentIdentityProvider) -> None:
    browser = page.browser
    browser.open(second.url + "/private")
    page.is_good("choose", "Sign in")
    # Without its script the page stays.
    browser.block("*/submit.js")
    browser.open(second.address("login") + "?idp=idp")
    browser.wait_for("Signing in")
    browser.complaints()
    page.is_good("post", "Signing in")
    browser.block()
    browser.press("Continue")
    page.is_good("provider-choose", "Choose who you are")
    browser.press("Sign in as Bob")
    page.is_good("error", "Signing in did not work")

    browser.open(idp.url)
    page.is_good("provider-front", "Development identity provider")
    idp.add_service_provider(desk.metadata())
    browser.open(idp.url)
    browser.press(f"Go to {desk.address('metadata')}")
    browser.press(f"Sign in as {ANN}")
    page.is_good("continue", f"Continue as {ANN}?")
    browser.press("Continue")
    browser.open(desk.address("logout"))
    page.is_good("logout", "Sign out?")


def test_pages_on_the_way_out_read_well(page: Page, desk: Desk, second: Desk, idp: DevelopmentIdentityProvider) -> None:
    browser = page.browser
    browser.open(desk.url + "/private")
    browser.press(f"Sign in as {ANN}")
    browser.wait_for(f"Hello {ANN}")
    browser.open(desk.address("logout"))
    browser.press("Sign out")
    page.is_good("signed-out-whole", "You are signed out")
    assert "has confirmed" in browser.text

    for one, address in ((desk, "login?next=/private"), (second, "login?idp=idp&next=/private")):
        browser.open(one.address(address))
        browser.wait_for("Choose who you are")
        browser.press(f"{'Sign in' if one is desk else 'Continue'} as {ANN}")
        browser.wait_for(f"Hello {ANN}")
    browser.open(desk.address("logout"))
    browser.press("Sign out")
    page.is_good("signed-out-partial", "You are signed out of this application")
    assert "some applications may still be" in browser.text

    browser.open(second.address("logout"))
    browser.press("Sign out")
    page.is_good("signed-out-here-only", "You are signed out of this application")
    assert "Only this application" in browser.text
    browser.open(idp.url + "/logout")
    page.is_good("provider-signed-out", "Signed out")
    browser.open(desk.address("slo"))
    page.is_good("error-logout", "Signing out could not be completed")
