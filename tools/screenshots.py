"""Pictures of every screen for the docs, taken from the real app: `make screenshots`.

Uses the drawn example, so that nobody's pictures end up in the repository.
"""

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "screenshots"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
# Name of the variant, width, language, colour scheme. The first one's pictures carry no suffix: the README shows them.
VARIANTS = (("", 1280, "en-US", "light"), ("-dark-phone", 390, "en-US", "dark"), ("-zh", 1280, "zh-CN", "light"))


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        environment = {**os.environ, "TL_DATA_DIR": data}
        app = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=ROOT, env=environment)
        try:
            _walk(f"http://127.0.0.1:{port}/")
        finally:
            app.terminate()
            app.wait()


def _walk(url: str) -> None:
    while True:
        try:
            urllib.request.urlopen(url).close()
            break
        except OSError:
            time.sleep(0.2)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for suffix, width, locale, scheme in VARIANTS:
            size = {"width": width, "height": 800}
            context = browser.new_context(viewport=size, locale=locale, color_scheme=scheme)
            _screens(context.new_page(), url, suffix)
            context.close()
        browser.close()


def _screens(page: Page, url: str, suffix: str) -> None:
    def shoot(name: str) -> None:
        page.wait_for_timeout(900)  # let pictures arrive and transitions end
        shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        # A palette halves the files; drawn twice to its middles, and without dither, nobody sees it.
        few = shot.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
        few.save(OUT / f"{name}{suffix}.png", optimize=True)

    page.goto(url)
    _pictures(page, shoot)
    _training(page, shoot)
    _results(page, shoot)
    _using(page, shoot)


def _pictures(page: Page, shoot: Callable[[str], None]) -> None:
    page.wait_for_selector("#upload input[type=file]", state="attached")
    page.locator(".tl-sample").nth(1).click()
    page.wait_for_selector(".tl-said-digit", timeout=90_000)
    shoot("start")
    page.locator("#sources [role=tab]").nth(1).click()
    page.wait_for_selector("#builder .tl-class")
    shoot("camera")
    page.locator("#sources [role=tab]").nth(0).click()
    page.click("#example-digits")
    page.wait_for_selector("#to-train:visible")
    page.wait_for_selector("#understood:not(:has-text('…'))", timeout=60_000)  # the closer look is over
    shoot("data")
    page.locator("#understood [data-act=show]").first.click()
    page.wait_for_selector("#understood .tl-tick")
    shoot("data-opened")


def _training(page: Page, shoot: Callable[[str], None]) -> None:
    page.click("#to-train")
    page.wait_for_selector("#estimate strong")
    shoot("train")
    page.click("#start")
    page.wait_for_selector("#progress .tl-stages")
    shoot("training")
    page.wait_for_selector("#to-results:visible", timeout=120_000)
    page.click("#lessons summary")
    shoot("trained")


def _results(page: Page, shoot: Callable[[str], None]) -> None:
    page.click("#to-results")
    page.wait_for_selector("#details .tl-confusion")
    shoot("results")
    page.locator("#details .miss .tl-cell").first.click()
    page.wait_for_selector("#details section[data-key=cell] img")
    page.locator("#details section[data-key=cell] [data-act=why]").click()
    shoot("results-opened")


def _using(page: Page, shoot: Callable[[str], None]) -> None:
    page.click("#to-use")
    page.wait_for_selector("#download:visible")
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        with zipfile.ZipFile(ROOT / "examples" / "digits.zip") as archive:
            file.write(archive.read(archive.namelist()[75]))
        file.flush()
        page.set_input_files("#one-upload input[type=file]", file.name)
        page.wait_for_selector("#one-why", timeout=60_000)
    shoot("use")
    page.click("#exports button")
    page.locator("#export-kind label").nth(2).click()
    page.click("#export-make")
    page.wait_for_selector("#export-download:visible", timeout=90_000)
    page.click("#share button")
    page.wait_for_selector("#share-name")
    page.click("#share-more button")
    shoot("share")


if __name__ == "__main__":
    main()
