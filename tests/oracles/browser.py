"""A headless Chromium of the system's, driven by selenium; whoever lacks one is told which package is missing."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Page", "browser", "missing"]

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
    "--hide-scrollbars",
)


def missing() -> str | None:
    """Return what there would have to be for a browser; None: it is all there."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed"
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: chromium, chromium-driver)"
    return None


class Page:
    """What a test does with the live page in a browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def size(self, width: int, height: int, *, scale: float = 1.0) -> None:
        """Have a window of this size; below 500 px it is a phone's."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        """Have the system prefer "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, url: str) -> None:
        """Load the page, and wait until it is live."""
        self.driver.get(url)
        self.until(lambda: self.state == "live")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    @property
    def state(self) -> str:
        """live, lost, connecting, paused."""
        return self.run("return document.documentElement.dataset.state")

    def find(self, selector: str) -> Any:
        """Return the first element."""
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        """Return all elements."""
        return self.driver.find_elements("css selector", selector)

    def text(self, selector: str) -> str:
        """Return the text of the first element."""
        return self.run("const e = document.querySelector(arguments[0]); return e ? e.innerText : ''", selector)

    def rows(self) -> dict[str, dict[str, str]]:
        """Return what the table shows, by the policies' names, top first."""
        found = self.run(
            """return [...document.querySelectorAll("#rows tr")].map((row) => [
                 row.querySelector(".who button").innerText,
                 {state: row.querySelector(".chip").innerText, since: row.querySelector(".since").innerText,
                  line: row.querySelector("small").innerText, load: row.querySelector(".load").innerText,
                  calls: row.querySelectorAll("td.num")[0].innerText,
                  failed: row.querySelectorAll("td.num")[1].innerText,
                  rejected: row.querySelectorAll("td.num")[2].innerText,
                  p50: row.querySelectorAll("td.num")[3].innerText,
                  p99: row.querySelectorAll("td.num")[5].innerText}])"""
        )
        return dict(found)

    def select(self, name: str) -> None:
        """Open the details of a policy."""
        find = "return [...document.querySelectorAll('#rows .who button')].find((b) => b.innerText === arguments[0])"
        self.until(lambda: self.run(find, name)).click()
        self.until(lambda: self.text("#detail-live"))

    def until(self, met: Callable[[], Any]) -> Any:
        """Wait for something in the page; what never comes fails with what is there, and leaves the run to go on."""
        patience = time.monotonic() + 60
        while not (found := met()):
            assert time.monotonic() < patience, self.text("body")
            time.sleep(0.02)
        return found

    def complaints(self) -> list[str]:
        """Return what the browser's console has to complain of."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextmanager
def browser() -> Iterator[Page]:
    """Start a browser with a profile of its own for the time of a block."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.binary_location = shutil.which("chromium") or ""
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield Page(driver)
        finally:
            driver.quit()
