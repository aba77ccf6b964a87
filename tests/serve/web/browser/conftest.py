"""A real Chromium on the page of a server with shipped models. Screenshots are kept under build/screenshots."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.web.doors import find_free_port
from tests.served import Served, served
from tests.support import ROOT

pytest.importorskip("starlette", reason="needs the extra [web]")
playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [test-web]")

BROWSER = shutil.which(os.environ.get("INKLING_CHROMIUM", "chromium")) or ""
SCREENSHOTS = ROOT / "build/screenshots"
MODELS = ("mnist", "cifar10")
AXE = os.environ.get("INKLING_AXE", "")
"""A file axe.min.js. Without it, npm fetches one."""
Shoot = Callable[[Any, str], None]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The browser."""
    if not BROWSER:
        pytest.skip("needs chromium, as Debian has it")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with two of the shipped models, and its page."""
    folder = tmp_path_factory.mktemp("shipped")
    for name in MODELS:
        (folder / name).symlink_to(ROOT / "models" / name)
    with served(folder, "--web-port", str(find_free_port()), "--metrics-port", "0") as server:
        yield server


@pytest.fixture(scope="session")
def url(shipped: Served) -> str:
    """Where the page is."""
    return shipped.wait_for(r"page on (\S+)/,")[0][1]


@pytest.fixture
def open_page(browser: Any, url: str) -> Iterator[Callable[..., Any]]:
    """A function that opens the page in a fresh profile. An error of its script fails the test."""
    contexts: list[Any] = []
    faults: list[str] = []

    def open_one(at: str = url, **settings: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, "locale": "en-GB", **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(at)
        page.wait_for_selector("#model option", state="attached")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Any:
    """The page on a desktop."""
    return open_page()


@pytest.fixture(scope="session")
def shoot() -> Shoot:
    """A function that keeps a screenshot."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def keep(page: Any, name: str) -> None:
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    return keep


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core."""
    if AXE:
        return Path(AXE).read_text(encoding="utf-8")
    if not shutil.which("npm"):
        pytest.skip("needs INKLING_AXE, the file axe.min.js, or npm to fetch it")
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "axe-core@4"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"needs axe-core, which npm could not fetch: {done.stderr[-200:]}")
    return (folder / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
