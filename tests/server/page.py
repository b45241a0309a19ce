"""Run in the copy, with Debian's Selenium: the page of ``dkimpipe reports --html`` in a browser.

It prints what is wrong, and writes a screenshot for each width.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

WIDTHS = {"phone": 360, "desktop": 1200}
SMALLEST = 9  # pixels: the height of text
# What is wider than it may be, in a window or in what contains it.
_WIDE = """
const all = [document.documentElement, ...document.querySelectorAll('body *')];
return all.filter(e => (e instanceof HTMLElement && e.scrollWidth > e.clientWidth + 1)
                    || e.getBoundingClientRect().right > innerWidth + 1)
          .map(e => e.outerHTML.slice(0, 80));
"""
_SMALL = """
return [...document.querySelectorAll('svg text, td, th, p, li, figcaption')]
    .filter(e => e.getBoundingClientRect().height < arguments[0]).map(e => e.textContent);
"""
_LOADED = "return performance.getEntriesByType('resource').map(e => e.name);"
_MISSING = "return document.querySelectorAll('svg rect').length ? [] : ['no bars'];"


def faults(driver: webdriver.Chrome) -> Iterator[str]:
    """Yield what is wrong with the page at the current width."""
    for entry in driver.get_log("browser"):
        yield f"console: {entry['message']}"
    for what, script in (("wide", _WIDE), ("small", _SMALL), ("loaded", _LOADED), ("chart", _MISSING)):
        for each in driver.execute_script(script, SMALLEST):
            yield f"{what}: {each}"


def main() -> int:
    """Look at a page at each width."""
    page, pictures = map(Path, sys.argv[1:])
    options = Options()
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    found = []
    try:
        for name, width in WIDTHS.items():
            screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": name == "phone"}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            driver.get(page.as_uri())
            found += [f"{name}: {fault}" for fault in faults(driver)]
            height = driver.execute_script("return document.documentElement.scrollHeight;")
            screen["height"] = min(height, 4000)
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            driver.save_screenshot(str(pictures / f"reports-{name}.png"))
    finally:
        driver.quit()
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
