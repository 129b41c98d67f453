"""The built site needs no network, and its search finds the remedy of an error text."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.local import browser as driving

if TYPE_CHECKING:
    from collections.abc import Iterator

# The first test builds the site: half a minute, or many on a busy machine.
pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[1]
MESSAGES = re.findall(r"^### `(.+)`$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-n", "-q", "-b", "html"]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_no_page_loads_anything_from_the_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"([^\"]+)\"", page.read_text())
        loaded += re.findall(r"<link[^>]*rel=\"(?:stylesheet|preload|icon)\"[^>]*href=\"([^\"]+)\"", page.read_text())
        assert [address for address in loaded if re.match(r"(https?:)?//", address)] == [], page.name


def test_drawings_are_in_the_page_and_take_its_colours(site: Path) -> None:
    for page in ("explanation/waiting.html", "explanation/architecture.html"):
        assert '<svg class="drawing"' in (site / page).read_text(), page


def test_the_parameters_of_an_operator_are_a_table(site: Path) -> None:
    page = (site / "reference/operators/sessions.html").read_text()
    for name in ("task", "payload", "deferrable", "helmr_conn_id", "max_result_bytes"):
        assert f'<span class="pre">{name}</span>' in page


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[driving.Browser]:
    if driving.CHROMIUM is None or driving.CHROMEDRIVER is None:
        pytest.skip("no browser: install the packages chromium and chromium-driver")
    with driving.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("message", MESSAGES)
def test_the_search_finds_the_remedy_of_a_message(site: Path, window: driving.Browser, message: str) -> None:
    # A reader pastes the fixed words of the message.
    words = " ".join(re.findall(r"\w+", max(message.split("…"), key=len)))
    window.go(f"{(site / 'search.html').as_uri()}?q={words.replace(' ', '+')}")
    window.until(lambda: window.run("return document.querySelectorAll('ul.search li').length > 0"))
    window.until(lambda: "Troubleshooting" in window.text("ul.search"))
