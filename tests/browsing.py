"""A real browser, where there is one: pages as people see them, what they ask of the network, what they complain of."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def start_browser(*flags: str) -> Iterator[Any]:
    """Headless Chromium with more flags, as a fixture yields it; skips with the reason where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver here (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


def look(browser: Any, page: Path, width: int) -> tuple[list[str], list[str]]:
    """Open a file at a width in pixels; what the console says, and the addresses of all requests."""
    for log in ("browser", "performance"):
        browser.get_log(log)
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.absolute().as_uri())
    said = [entry["message"] for entry in browser.get_log("browser")]
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    return said, asked


BEYOND = """
const wide = document.documentElement.clientWidth;
return [...document.querySelectorAll("body *")].filter(e => !e.closest(".wide, svg") &&
    e.getBoundingClientRect().right > wide + 0.5).map(e => e.outerHTML.slice(0, 120));
"""


def beyond_the_right_edge(browser: Any) -> list[str]:
    """Elements that the window does not show whole, but for what scrolls in a box of its own (class `wide`)."""
    if browser.execute_script("return document.documentElement.scrollWidth > innerWidth"):
        return ["the page itself", *browser.execute_script(BEYOND)]
    return list(browser.execute_script(BEYOND))
