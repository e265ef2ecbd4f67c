"""Chromium, as a person uses it, and axe-core for what a person may not see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.servers import require

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PATIENCE = 60.0
MINOR = {None, "minor"}
AXE = """
const done = arguments[1];
axe.run(document, {resultTypes: ['violations'], rules: arguments[0]}).then(done, e => done(String(e)));
"""
# Then the colours are the system's, and axe-core reads the page's all the same.
NO_COLOURS = {"color-contrast": {"enabled": False}}

SMALL = """
return [...document.querySelectorAll('a[href], button, input:not([type=hidden])')].filter(one => {
  const {width, height} = one.getBoundingClientRect();
  return (width < 24 || height < 24) && !(one.closest('p') && getComputedStyle(one).display == 'inline');
}).map(one => one.outerHTML);
"""

LOST = """
const lost = [];
const see = (kind, one) => lost.push(kind + ': ' + one.outerHTML.slice(0, 200));
const style = one => getComputedStyle(one);
const parts = colour => colour.match(/[\\d.]+/g).map(Number);
const clear = colour => parts(colour)[3] === 0;
const shown = one => one.checkVisibility() && one.getBoundingClientRect().width > 1;
function behind(one) {
  while (one && clear(style(one).backgroundColor)) one = one.parentElement;
  const canvas = document.createElement('div');
  canvas.style.backgroundColor = 'Canvas';
  document.body.append(canvas);
  const colour = style(one || canvas).backgroundColor;
  canvas.remove();
  return colour;
}
function light(colour) {
  const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = parts(colour).slice(0, 3).map(c => linear(c / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
}
function differ(one, other, least) {
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return !clear(one) && high / low >= least;
}
for (const one of document.body.querySelectorAll('*')) {
  const says = [...one.childNodes].some(node => node.nodeType == Node.TEXT_NODE && node.data.trim());
  if (says && shown(one) && !differ(style(one).color, behind(one), 4.5)) see('text', one);
}
const line = (found, side, around) => found[side + 'Style'] != 'none' && parseFloat(found[side + 'Width']) >= 1
  && differ(found[side + 'Color'], around, 3);
for (const one of document.querySelectorAll('button, .ga-button, input:not([type=hidden])')) {
  const sides = ['borderTop', 'borderRight', 'borderBottom', 'borderLeft'];
  if (shown(one) && !sides.every(side => line(style(one), side, behind(one.parentElement)))) see('border', one);
}
for (const one of document.querySelectorAll('a[href], button, input:not([type=hidden])')) {
  one.focus();
  if (!shown(one) || document.activeElement !== one) continue;
  if (!line(style(one), 'outline', behind(one.parentElement))) see('focus', one);
}
document.activeElement.blur();
return lost;
"""
"""What cannot be seen where the system has its own few colours: texts (WCAG 1.4.3), edges and the focus (1.4.11)."""


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A headless Chromium with a profile of its own."""
    with running_chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@contextmanager
def running_chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Run a headless Chromium meanwhile."""
    options = webdriver.ChromeOptions()
    options.binary_location = require("chromium", "chromium")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(require("chromedriver", "chromium-driver")))
    try:
        yield started
    finally:
        started.quit()


class Browser:
    """One browser without a past: no cookie of an earlier test is left."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver
        self._axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        self._pages: set[str] = set()
        self._rules: dict[str, Any] = {}
        self._forced = False
        self.forget()
        self.complaints()

    def forget(self) -> None:
        """Be without a past: no cookie of any site."""
        self._driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self._driver.get("about:blank")

    def cookie(self, name: str) -> str:
        """The value of a cookie of the site where the browser is."""
        found: Any = self._driver.get_cookie(name)
        assert found is not None, f"{self.url} has no cookie {name}"
        value: str = found["value"]
        return value

    def look(self, *, width: int, scheme: str, zoom: int = 1, forced: bool = False) -> None:
        """See pages in a window of this width and in this colour scheme.

        :param zoom: by how much everything is larger: as many fewer pixels are there for the page's layout.
        :param forced: the system's own few colours take the place of the page's.
        """
        size = {"width": width // zoom, "height": 800 // zoom, "deviceScaleFactor": zoom, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self._rules = NO_COLOURS if forced else {}
        self._forced = forced
        wanted = {"prefers-color-scheme": scheme, "forced-colors": "active" if forced else "none"}
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def block(self, *addresses: str) -> None:
        """Let nothing come from these addresses (with ``*``) from now on; without any, from everywhere again."""
        self._driver.execute_cdp_cmd("Network.enable", {})
        self._driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": list(addresses)})

    def save_screenshot(self, file: Path) -> None:
        """Put a picture of the page into a PNG file."""
        assert self._driver.save_screenshot(str(file))

    def open(self, url: str) -> None:
        """Go to an address."""
        self._driver.get(url)
        self._seen()

    def _seen(self) -> None:
        self._pages.add(urldefrag(self.url).url)

    @property
    def url(self) -> str:
        """Where the browser is."""
        return self._driver.current_url

    @property
    def host(self) -> str:
        """The host and port where the browser is."""
        return urlsplit(self.url).netloc

    @property
    def heading(self) -> str:
        """The page's one ``h1``."""
        [heading] = self._driver.find_elements(By.TAG_NAME, "h1")
        return heading.text

    @property
    def text(self) -> str:
        """What can be read on the page."""
        return self._driver.find_element(By.TAG_NAME, "body").text

    def press(self, label: str) -> None:
        """Press the button, or follow the link, of this label, and wait for the next page."""
        path = f"//main//*[self::a or self::button][normalize-space()='{label}']"
        found = self._driver.find_elements(By.XPATH, path) or self._driver.find_elements(
            By.XPATH, path.replace("//main", "//header")
        )
        assert found, f"there is no {label!r} on {self.url}"
        page = self._driver.find_element(By.TAG_NAME, "html").id
        found[0].click()
        self._wait_for_another(page)

    def submit(self, field: str) -> None:
        """Send the form that this field is in, and wait for the next page."""
        page = self._driver.find_element(By.TAG_NAME, "html").id
        self._driver.find_element(By.NAME, field).submit()
        self._wait_for_another(page)

    def fill(self, **fields: str) -> None:
        """Type into the form's fields."""
        for name, text in fields.items():
            field = self._driver.find_element(By.NAME, name)
            field.clear()
            field.send_keys(text)

    def wait_for(self, heading: str) -> None:
        """Wait until a page with this heading is there: a page may send the browser on by itself."""
        WebDriverWait(self._driver, PATIENCE).until(
            lambda driver: [found.text for found in driver.find_elements(By.TAG_NAME, "h1")] == [heading],
            f"{self.url} says {self.text!r}, not {heading!r}",
        )

    def wait_for_address(self, beginning: str) -> None:
        """Wait until the browser is at an address that begins like this, and the page is there."""
        WebDriverWait(self._driver, PATIENCE).until(
            lambda driver: (
                driver.current_url.startswith(beginning)
                and driver.execute_script("return document.readyState") == "complete"
            ),
            f"{self.url} says {self.text!r}, it does not begin with {beginning!r}",
        )

    def wait_for_text(self, text: str) -> None:
        """Wait until a page can be read that says this."""
        WebDriverWait(self._driver, PATIENCE).until(
            lambda driver: text in driver.find_element(By.TAG_NAME, "body").text, f"{text!r} is not said"
        )

    def _wait_for_another(self, page: str) -> None:
        WebDriverWait(self._driver, PATIENCE).until(lambda driver: driver.find_element(By.TAG_NAME, "html").id != page)
        self._seen()

    def small_targets(self) -> list[str]:
        """Return what is to be pressed and has less than 24 pixels either way (WCAG 2.5.8), words in a text apart."""
        return list(self._driver.execute_script(SMALL))

    def lost_in_forced_colours(self) -> list[str]:
        """Return what cannot be seen in the system's own few colours: nothing where the page has its own."""
        if not self._forced:
            return []
        # From here on the focus is the keyboard's, which a page shows.
        ActionChains(self._driver).send_keys(Keys.TAB).perform()
        return list(self._driver.execute_script(LOST))

    def add_style(self, css: str) -> None:
        """Let the page have more style rules, whatever its policy says."""
        script = "const s = new CSSStyleSheet(); s.replaceSync(arguments[0]); document.adoptedStyleSheets = [s]"
        self._driver.execute_script(script, css)

    def scrolls_sideways(self) -> bool:
        """Return whether the page is wider than the window."""
        script = "const e = document.documentElement; return e.scrollWidth > e.clientWidth"
        return bool(self._driver.execute_script(script))

    def findings(self) -> list[str]:
        """Return what axe-core finds above minor, each with the place."""
        self._driver.execute_script(self._axe)
        result: Any = self._driver.execute_async_script(AXE, self._rules)
        assert isinstance(result, dict), result
        return [
            f"{found['impact']}: {found['id']}: {found['help']}: {[node['html'] for node in found['nodes']]}"
            for found in result["violations"]
            if found["impact"] not in MINOR
        ]

    def overlook(self, address: str) -> None:
        """Take it as it comes that there is nothing at this address."""
        self._pages.add(address)

    def complaints(self) -> list[str]:
        """Return what the console has said since the last call.

        A page that is meant to refuse has a status that the console tells of: that of pages alone, and of nothing that
        a page brings along, is left out.
        """
        self._seen()
        driver: Any = self._driver
        return [entry["message"] for entry in driver.get_log("browser") if not self._refuses(entry["message"])]

    def _refuses(self, message: str) -> bool:
        address, _, said = message.partition(" - ")
        return address in self._pages and "the server responded with a status of 40" in said
