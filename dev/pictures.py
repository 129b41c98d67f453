"""Put the pictures of a folder into the documentation, and compose its animation: python -m dev.pictures FOLDER.

`make pictures` fills the folder: with screenshots of the browser tests, and with the demo's output in `demo.txt`. The
browser draws each still, and the stills become one animated PNG, which every browser shows and which needs no library.
"""

from __future__ import annotations

import base64
import io
import shutil
import struct
import sys
import tempfile
import zlib
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from dev.processes import leave_nothing_running
from dev.stack import ROOT
from tests.support.local.browser import browser

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IMAGES = ROOT / "docs/images"
WIDTH, HEIGHT = 960, 640
LINES = 21
MILLISECONDS = 4000
MOST_BYTES = 400_000
SIGNATURE = b"\x89PNG\r\n\x1a\n"
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; width: {width}px; height: {height}px; overflow: hidden; background: #14191e; color: #e6eaee;
  font: 20px/40px system-ui, sans-serif }}
h1 {{ font: inherit; height: 40px; margin: 0; padding: 0 16px }} b {{ color: #b3a6f5; margin-right: 8px }}
img {{ display: block; width: {width}px; image-rendering: auto }}
pre {{ font: 14px/26px ui-monospace, monospace; margin: 0; padding: 10px 16px; white-space: pre }}
</style><h1><b>{number}</b>{caption}</h1>{content}"""


@leave_nothing_running()
def main() -> int:
    """Copy and compose; returns the exit code."""
    folder = Path(sys.argv[1])
    for shown in IMAGES.glob("*.png"):
        if (taken := folder / shown.name).exists():
            shutil.copy(taken, shown)
    lines = (folder / "demo.txt").read_text().splitlines()
    waits = next(number for number, line in enumerate(lines) if "deferred" in line) + 1
    pages = [
        ("<code>make demo</code> starts Airflow and a local control plane", _terminal(lines[:waits])),
        ("The task waits without a worker slot; its tab in Airflow shows the run", _picture("airflow-tab-waiting")),
        ("A person answers in Airflow or in Helmr; the first answer counts", _picture("airflow-approval")),
        ("The agent's session continues, and the next task gets its result", _terminal(lines)),
    ]
    with tempfile.TemporaryDirectory() as profile:
        stills = list(_stills(pages, Path(profile)))
    animation = animated(stills, MILLISECONDS)
    if len(animation) > MOST_BYTES:
        sys.stderr.write(f"The animation has {len(animation)} bytes, more than {MOST_BYTES}.\n")
        return 1
    (IMAGES / "demo.png").write_bytes(animation)
    return 0


def animated(stills: Sequence[bytes], milliseconds: int) -> bytes:
    """Return an animated PNG that shows stills of one size in turn, without an end.

    :param stills: PNG files; a viewer that knows no animation shows the first.
    :param milliseconds: how long each is shown.
    """
    parts = [[*_chunks(still)] for still in stills]
    heads = {content for chunks in parts for kind, content in chunks if kind == b"IHDR"}
    if len(heads) != 1:
        raise ValueError("the stills differ in size or colour type")
    (head,) = heads
    width, height = struct.unpack(">II", head[:8])
    out = SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"acTL", struct.pack(">II", len(stills), 0))
    sequence = 0
    for chunks in parts:
        control = struct.pack(">IIIIIHHBB", sequence, width, height, 0, 0, milliseconds, 1000, 0, 0)
        out += _chunk(b"fcTL", control)
        sequence += 1
        data = zlib.compress(zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT")), 9)
        if chunks is parts[0]:
            out += _chunk(b"IDAT", data)
        else:
            out += _chunk(b"fdAT", struct.pack(">I", sequence) + data)
            sequence += 1
    return out + _chunk(b"IEND", b"")


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(SIGNATURE)
    while position < len(png):
        (size,) = struct.unpack(">I", png[position : position + 4])
        yield png[position + 4 : position + 8], png[position + 8 : position + 8 + size]
        position += 12 + size


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _stills(pages: Sequence[tuple[str, str]], folder: Path) -> Iterator[bytes]:
    with browser(folder / "profile") as window:
        window.size(WIDTH, HEIGHT)
        for number, (caption, content) in enumerate(pages, 1):
            page, still = folder / f"{number}.html", folder / f"{number}.png"
            page.write_text(PAGE.format(width=WIDTH, height=HEIGHT, number=number, caption=caption, content=content))
            window.go(page.as_uri())
            window.screenshot(still)
            yield still.read_bytes()


def _terminal(lines: Sequence[str]) -> str:
    """Return the last lines of a terminal in their colours, as HTML."""
    console = Console(record=True, file=io.StringIO(), width=110, legacy_windows=False)
    console.print(Text.from_ansi("\n".join(lines[-LINES:])))
    return console.export_html(theme=SVG_EXPORT_THEME, inline_styles=True, code_format="<pre>{code}</pre>")


def _picture(name: str) -> str:
    encoded = base64.b64encode((IMAGES / f"{name}.png").read_bytes()).decode()
    return f'<img src="data:image/png;base64,{encoded}" alt="{escape(name)}">'


if __name__ == "__main__":
    sys.exit(main())
