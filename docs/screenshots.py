"""Takes the pictures of the documentation from the running sample application: ``python -m docs.screenshots``.

Needs Chromium, chromedriver and selenium. A test takes all of them again, and sees that each is used by a page.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from docs.small_png import shrink

FOLDER = Path(__file__).with_name("images")
LARGEST = 60_000
"""Bytes of one picture."""
WIDTH = 760
_PATIENCE = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


class Visitor:
    """Somebody who walks through the sample application with a browser.

    :param ready: what its ready file says.
    """

    def __init__(self, driver: webdriver.Chrome, ready: Mapping[str, Any]) -> None:
        self._driver = driver
        self._url: str = ready["addresses"]["application"]
        self._credentials: Mapping[str, Mapping[str, str]] = ready["credentials"]

    def open(self, path: str) -> None:
        """Go to a page of the application, without a past."""
        self._driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self._driver.get(self._url + path)

    def press(self, label: str) -> None:
        """Press a button and wait for the next page, which may send the browser on by itself."""
        page = self._driver.find_element(By.TAG_NAME, "html").id
        self._driver.find_element(By.XPATH, f"//main//button[normalize-space()='{label}']").click()
        WebDriverWait(self._driver, _PATIENCE).until(lambda one: one.find_element(By.TAG_NAME, "html").id != page)
        WebDriverWait(self._driver, _PATIENCE).until(lambda one: self._at_rest(one.current_url))

    def _at_rest(self, address: str) -> bool:
        refused = self._driver.find_elements(By.XPATH, "//h1[.='Signing in did not work']")
        return bool(refused) or (address.startswith(self._url) and "/complete" not in address)

    def sign_in(self, name: str) -> None:
        """Fill the form of the application with somebody's name and password."""
        for field, text in self._credentials[name].items():
            self._driver.find_element(By.NAME, field).send_keys(text)
        self.press("Sign in")

    def picture(self) -> bytes:
        """Return the whole page as PNG, in light colours."""
        feature = {"name": "prefers-color-scheme", "value": "light"}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        # As low as the window may be: what a page does not need is not in the picture.
        size = {"width": WIDTH, "height": 360, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        height = self._driver.execute_script("return document.documentElement.scrollHeight")
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "height": height})
        taken: Any = self._driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        return base64.b64decode(taken["data"])


def _choose(visitor: Visitor) -> None:
    visitor.open("/agent")


def _stranger(visitor: Visitor) -> None:
    visitor.open("/agent")
    visitor.press("Sign in as stranger@acme.example")


def _walk(visitor: Visitor) -> None:
    visitor.open("/login")
    visitor.sign_in("web_services")


def _form(visitor: Visitor) -> None:
    visitor.open("/login")


PICTURES: Mapping[str, Callable[[Visitor], None]] = {
    "choose-who-you-are.png": _choose,
    "signing-in-did-not-work.png": _stranger,
    "walk.png": _walk,
    "sign-in.png": _form,
}
"""What leads to the page of each picture."""


def take(folder: Path) -> None:
    """Take all pictures.

    :param folder: where they are written.
    :raises ValueError: if one is larger than :data:`LARGEST`.
    """
    with tempfile.TemporaryDirectory() as scratch, _sample(Path(scratch)) as ready, _browser(scratch) as driver:
        visitor = Visitor(driver, ready)
        for name, lead in PICTURES.items():
            lead(visitor)
            picture = shrink(visitor.picture())
            if len(picture) > LARGEST:
                raise ValueError(f"{name} has {len(picture)} bytes, more than {LARGEST}")
            (folder / name).write_bytes(picture)


@contextmanager
def _sample(folder: Path) -> Iterator[Mapping[str, Any]]:
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "sample_app", "--port", "0", "--ready-file", str(ready)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + _PATIENCE
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError("the sample application does not start")
                time.sleep(0.05)
            yield json.loads(ready.read_text("utf-8"))
        finally:
            process.terminate()


@contextmanager
def _browser(scratch: str) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*_FLAGS, f"--user-data-dir={scratch}/profile"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    take(FOLDER)
