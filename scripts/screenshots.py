"""Pictures of the pages for docs/images: at 1280 and 390 pixels, light and dark, as WebP.

    gan-denoise demo --out demo-out
    python scripts/screenshots.py demo-out

It shows what a demo has left: the report of its evaluation, its recordings, the page of a folder
run, its runs in TensorBoard, and the page of `serve` after a press of the example's button. It
needs the extras `train`, `web` and `dev`, and Chromium: `playwright install chromium`, or the one
of the system.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import create_server

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

SIZES = {1280: 900, 390: 844}  # pixels: width and height of the window
SCHEMES = ("light", "dark")
QUALITY = 60  # of WebP, of 100
START_SECONDS = 120  # until a server answers
GAN_DENOISE = (sys.executable, "-m", "gan_denoise.cli")
NAMES = ("serve", "report", "folder", "explore", "tensorboard")


def main() -> None:
    """Draw the pages that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("demo", type=Path, help="folder of a demo that is done")
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of Chromium")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.browser)
        shooter = Shooter(browser, arguments.out)
        for name in arguments.only:
            globals()[f"draw_{name}"](shooter, arguments.demo, Path(temporary))
        browser.close()
    size = sum(path.stat().st_size for path in arguments.out.glob("*.webp"))
    print(f"{arguments.out}: {size / 1e6:.2f} MB")


class Shooter:
    """Takes pictures of pages in all sizes and schemes.

    Args:
        browser: The browser.
        out: Folder of the pictures.
    """

    def __init__(self, browser: Browser, out: Path):
        self.browser, self.out = browser, out
        out.mkdir(parents=True, exist_ok=True)

    def take(self, name: str, address: str, prepare: Callable[[Page], object] = lambda page: None
             ) -> None:
        """Write `NAME-WIDTH-SCHEME.webp` of a page.

        Args:
            name: What the page is.
            address: Where it is.
            prepare: Called with the page once it is loaded; may press and scroll.
        """
        for width, height in SIZES.items():
            for scheme in SCHEMES:
                page = self.browser.new_page(viewport={"width": width, "height": height},
                                             color_scheme=scheme, reduced_motion="reduce")
                page.goto(address)
                prepare(page)
                picture = Image.open(io.BytesIO(page.screenshot()))
                picture.save(self.out / f"{name}-{width}-{scheme}.webp", quality=QUALITY, method=6)
                page.close()


# ---- The pages ---------------------------------------------------------------------------------
def draw_serve(shooter: Shooter, demo: Path, temporary: Path) -> None:
    """The page of `serve`, as it is and with the denoised example."""
    port = free_port()
    with server([*GAN_DENOISE, "serve", "--port", str(port), "--data", str(demo / "data"),
                 "--runs", str(temporary / "runs")], port) as address:

        def denoise(page: Page) -> None:
            page.get_by_role("button", name="Try the example").click()
            page.locator("#results .player").first.wait_for(timeout=120_000)
            page.wait_for_timeout(1000)  # the spectrograms
            page.locator("#results-title").evaluate("element => element.scrollIntoView()")

        shooter.take("serve", address)
        shooter.take("serve-result", address, denoise)


def draw_report(shooter: Shooter, demo: Path, temporary: Path) -> None:
    """The report of the demo's evaluation: its head, and a player."""
    page = temporary / "report.html"
    run("report", demo / "evaluation", "-o", page)
    shooter.take("report", page.as_uri())
    shooter.take("report-player", page.as_uri(), to_first_player)


def draw_folder(shooter: Shooter, demo: Path, temporary: Path) -> None:
    """The page of a folder run over the demo's test recordings."""
    page = temporary / "folder.html"
    shutil.copytree(demo / "data/test/noisy", temporary / "recordings")
    run("denoise", "recordings", "-o", "cleaned", "--report", page, folder=temporary)
    shooter.take("folder", page.as_uri())
    shooter.take("folder-player", page.as_uri(), to_first_player)


def draw_explore(shooter: Shooter, demo: Path, temporary: Path) -> None:
    """The survey of the demo's recordings."""
    page = temporary / "explore.html"
    run("explore", demo / "data/speech/test", demo / "data/noise/test", "-o", page)
    shooter.take("explore", page.as_uri())


def draw_tensorboard(shooter: Shooter, demo: Path, temporary: Path) -> None:
    """The demo's runs in TensorBoard's custom scalars."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("tensorboard")), "--logdir", str(demo / "runs"),
               "--host", "127.0.0.1", "--port", str(port)]
    with server(command, port) as address:
        shooter.take("tensorboard", f"{address}/#custom_scalars",
                     lambda page: page.wait_for_timeout(8000))


def to_first_player(page: Page) -> None:
    """Scroll to the first player and wait until its pictures are drawn."""
    player = page.locator(".player").first
    player.evaluate("element => element.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(1000)


# ---- Processes ---------------------------------------------------------------------------------
def run(*arguments: str | Path, folder: Path | None = None) -> None:
    """Run a verb of the command line, in a folder where one is given."""
    subprocess.run([*GAN_DENOISE, *map(str, arguments)], check=True, cwd=folder)


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def server(command: list[str], port: int) -> Iterator[str]:
    """Start a server, give its address once it answers, and end it."""
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(command)
    try:
        until = time.monotonic() + START_SECONDS
        while not answers(address):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{command[0]}: no answer from {address}")
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def answers(address: str) -> bool:
    """Return whether a server answers."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


if __name__ == "__main__":
    main()
