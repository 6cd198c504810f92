"""A real browser for tests: the system's Chromium, driven over WebDriver. Nothing is downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")
#: Seconds: the machine may be busy.
PATIENCE = 30.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-prefers-reduced-motion",
)


def programs() -> tuple[str, str] | None:
    """Chromium and its driver, of one version as a distribution has them."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


class Browser:
    """One window, and what one asks of it in these tests."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._complaints: list[str] = []

    def cdp(self, method: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(method, parameters)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def open(self, address: str) -> None:
        self.driver.get(address)

    def leave(self) -> None:
        """Before what it shows ends."""
        self._complaints = self.complaints()
        self.open("about:blank")

    def size(self, width: int, height: int) -> None:
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, media: str = "", scheme: str = "light") -> None:
        self.cdp("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """Waits until it is there."""
        return self.until(lambda: next(iter(self.all(selector)), None), f"{selector} is not there")

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def until(self, found: Callable[[], T | None], why: str, patience: float = PATIENCE) -> T:
        """The first thing found that is none of nothing, false and none."""
        waiting: WebDriverWait[Any] = WebDriverWait(self.driver, patience, 0.02, [StaleElementReferenceException])
        return waiting.until(lambda _: found(), why)  # type: ignore[no-any-return]

    def says(self, selector: str, words: str, patience: float = PATIENCE) -> None:
        self.until(lambda: words in self.text(selector), f"{selector} does not say {words!r}", patience)

    def keys(self, *keys: str) -> None:
        """To whatever has the focus."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def complaints(self) -> list[str]:
        """What the console has had to complain of since it was asked last: errors of scripts, of the policy, of requests."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        before, self._complaints = self._complaints, []
        return before + [f"{entry['level']} {entry['message']}" for entry in entries if entry["level"] in ("WARNING", "SEVERE")]


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser with a new, empty profile in `folder`."""
    found = programs()
    assert found
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    options.page_load_strategy = "eager"  # the stream of figures never ends
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = Service(found[1], env={"PATH": os.environ["PATH"], "HOME": str(folder), "SE_OFFLINE": "true"})
    driver = webdriver.Chrome(options, service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
