"""Takes the pictures of the documentation from the running sample application: ``python -m docs.screenshots``.

Needs Chromium, chromedriver and the tests' dependencies. A test takes the pictures again.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

from tests.browser.chromium import Browser, running_chromium
from tests.sample.running import RunningSample, running_sample

FOLDER = Path(__file__).with_name("images")
LARGEST = 60_000
"""Bytes of one picture."""
WIDTH = 760
_COLOURS = 128


def _choose(browser: Browser, sample: RunningSample) -> None:
    browser.open(f"{sample.url}/agent")


def _refused(browser: Browser, sample: RunningSample) -> None:
    browser.open(f"{sample.url}/agent")
    browser.press("Sign in as stranger@acme.example")
    browser.wait_for("Signing in did not work")


def _walk(browser: Browser, sample: RunningSample) -> None:
    browser.open(f"{sample.url}/login")
    browser.fill(**sample.ready["credentials"]["web_services"])
    browser.press("Sign in")


def _form(browser: Browser, sample: RunningSample) -> None:
    browser.open(f"{sample.url}/login")


PICTURES: Mapping[str, Callable[[Browser, RunningSample], None]] = {
    "choose-who-you-are.png": _choose,
    "signing-in-did-not-work.png": _refused,
    "walk.png": _walk,
    "sign-in.png": _form,
}
"""How the browser gets to the page of each picture."""


def take(folder: Path, driver: webdriver.Chrome, sample: RunningSample) -> None:
    """Take all pictures and write them to a folder."""
    for name, open_page in PICTURES.items():
        browser = Browser(driver)
        browser.look(width=WIDTH, scheme="light")
        open_page(browser, sample)
        # A palette: pages have few colours.
        picture = Image.open(BytesIO(_screenshot(driver))).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
        picture.save(folder / name, optimize=True)


def _screenshot(driver: webdriver.Chrome) -> bytes:
    """Return the whole page as a PNG that is as high as the page and no higher."""
    size = {"width": WIDTH, "height": 360, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    height = driver.execute_script("return document.documentElement.scrollHeight")
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "height": height})
    taken: Any = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    return base64.b64decode(taken["data"])


def main() -> None:
    """Replace the pictures of the documentation."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_sample(Path(scratch)) as sample,
        running_chromium(Path(scratch) / "profile") as driver,
    ):
        take(FOLDER, driver, sample)


if __name__ == "__main__":
    main()
