"""What people need who use no script, or no mouse: every page works, and shows where one is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from ..sample.running import RunningSample
from .chromium import Browser

FOCUSABLE = "a[href], button, input:not([type=hidden])"
FOCUSED = """
const one = document.activeElement, style = getComputedStyle(one), place = one.getBoundingClientRect();
return [[...document.querySelectorAll(arguments[0])].indexOf(one), style.outlineStyle, parseFloat(style.outlineWidth),
        place.top >= 0 && place.left >= 0 && place.right <= innerWidth, document.hasFocus()];
"""
MOVING = """
return [...document.querySelectorAll('*')].filter(one => {
  const style = getComputedStyle(one);
  return style.animationName != 'none' || style.transitionDuration.split(', ').some(part => parseFloat(part) > 0);
}).length
"""


@pytest.fixture
def without_scripts(browser: Browser, chromium: webdriver.Chrome) -> Iterator[Browser]:
    """The browser with its scripts switched off."""
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    yield browser
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_scripts_are_really_off(without_scripts: Browser, chromium: webdriver.Chrome, sample: RunningSample) -> None:
    page = "data:text/html,<main><h1>off</h1></main><script>document.querySelector('h1').textContent = 'on'</script>"
    without_scripts.open(page)
    assert without_scripts.heading == "off"
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    without_scripts.open(page)
    assert without_scripts.heading == "on"


def test_a_saml_login_and_logout_take_no_script(without_scripts: Browser, sample: RunningSample) -> None:
    browser = without_scripts
    browser.open(sample.url + "/agent")
    assert browser.heading == "Choose who you are"
    sam = next(one for one in browser.text.splitlines() if one.startswith("Sign in as "))
    browser.press(sam)
    assert browser.heading == "Going back"
    browser.press("Continue")
    assert browser.heading == "Agent desk"
    browser.open(sample.url + "/")
    browser.press("Sign out")
    for _ in range(4):
        if browser.heading.startswith("You are signed out"):
            break
        browser.press("Continue")
    assert browser.heading == "You are signed out"
    browser.open(sample.url + "/supervisor")
    assert browser.heading in {"You are signed out", "You are not signed in"}


def test_sign_in_form_works_without_script_or_mouse(
    without_scripts: Browser, chromium: webdriver.Chrome, sample: RunningSample
) -> None:
    browser = without_scripts
    wendy = sample.ready["credentials"]["web_services"]
    browser.open(sample.url + "/login?next=/agent")
    keys = webdriver.ActionChains(chromium)
    # Past the way to the content, the name, three pages and the sign-in link.
    for _ in range(7):
        keys.send_keys(Keys.TAB)
    keys.send_keys(wendy["user_name"], Keys.TAB, wendy["password"], Keys.ENTER).perform()
    browser.wait_for("Agent desk")


def focus_walk(chromium: webdriver.Chrome) -> list[int]:
    """Press Tab through the page; return which element each press has reached, each with its focus to be seen."""
    count = len(chromium.find_elements(By.CSS_SELECTOR, FOCUSABLE))
    reached = []
    for _ in range(count):
        webdriver.ActionChains(chromium).send_keys(Keys.TAB).perform()
        place, style, width, visible, _ = chromium.execute_script(FOCUSED, FOCUSABLE)
        assert style != "none", (chromium.current_url, place)
        assert width >= 2, (chromium.current_url, place)
        assert visible, (chromium.current_url, place)
        reached.append(place)
    return reached


PAGES = ["/", "/login", "/agent", "/saml/acme/choose", "/signed-out", "/saml/acme/complete?code=unknown", "/missing"]


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("path", PAGES)
def test_tab_moves_visible_focus_in_document_order(
    browser: Browser, chromium: webdriver.Chrome, sample: RunningSample, path: str, width: int
) -> None:
    browser.look(width=width, scheme="light")
    browser.open(sample.url + path)
    browser.complaints()
    reached = focus_walk(chromium)
    assert reached
    assert reached == list(range(len(reached)))
    assert chromium.execute_script(MOVING) == 0
    assert chromium.execute_script("return document.documentElement.lang") == "en"
    assert chromium.title.strip()


def test_the_way_to_the_content_goes_there(browser: Browser, chromium: webdriver.Chrome, sample: RunningSample) -> None:
    browser.open(sample.url + "/login")
    webdriver.ActionChains(chromium).send_keys(Keys.TAB, Keys.ENTER, Keys.TAB).perform()
    assert chromium.execute_script("return document.activeElement.name") == "user_name"


def test_no_two_pages_have_one_title(browser: Browser, chromium: webdriver.Chrome, sample: RunningSample) -> None:
    titles = []
    for path in PAGES:
        browser.open(sample.url + path)
        titles.append(chromium.title)
    assert len(set(titles)) == len(PAGES), titles
