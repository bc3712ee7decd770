"""
Make the pictures of docs/how-to/live.md: `python tools/live_pictures.py`, with Debian's chromium and chromium-driver.

They show the sample service of the tests, tests/live/sample_service.py, after it has run for a while.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "_static"
TOKEN = "a token for the pictures"
WARM_UP = 45.0  # seconds: the last minute is to be seen


def main() -> int:
    """Run the service, take the pictures, and say how large they are."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "live")]
    from oracles.browser import Page, browser, missing

    if (lacks := missing()) is not None:
        print(lacks, file=sys.stderr)
        return 1
    import sample_service

    from resilio.live import live
    from resilio.live._serve import listen, serving

    def ill(page: Page) -> None:
        page.until(lambda: sample_service.service.ill and page.rows()["payments"]["state"] == "open")

    page_app = live(token=TOKEN)
    with serving(page_app, listen("127.0.0.1", 0)) as port, browser() as page:
        page.size(1380, 820)
        page.scheme("light")
        page.open(f"http://127.0.0.1:{port}/")
        time.sleep(WARM_UP)
        ill(page)
        page.driver.save_screenshot(PICTURES / "live-light.png")
        page.scheme("dark")
        unlock(page)
        page.select("payments")
        ill(page)
        page.driver.save_screenshot(PICTURES / "live-dark.png")
        page.find("#detail-close").click()
        page.scheme("light")
        page.size(390, 844)
        ill(page)
        page.driver.save_screenshot(PICTURES / "live-phone.png")
    for picture in sorted(PICTURES.glob("live-*.png")):
        print(f"{picture.relative_to(ROOT)}: {picture.stat().st_size / 1000:.0f} kB")
    return 0


def unlock(page: object) -> None:
    """Give the page the token, so that operations are seen."""
    page.find("#unlock").click()
    page.find("#token").send_keys(TOKEN)
    page.find("#token-form button[type=submit]").click()


if __name__ == "__main__":
    sys.exit(main())
