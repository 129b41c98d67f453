"""Make ``helmr_provider/client/_sync`` from ``helmr_provider/client/_async``.

``python dev/unasync.py`` writes it; ``--check`` fails when the existing files differ.

It works on tokens, so comments and layout survive: ``async`` and ``await`` are removed, and names and docstrings change
by the table below. Code without such a correspondence is in ``client/_unasync_pairs.py`` and ``client/_http/``.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

CLIENT = Path(__file__).resolve().parents[1] / "helmr_provider" / "client"

HEADER = """# Made by dev/unasync.py from the module of the same name in _async. Change that one, then run the script.
"""

NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "_async": "_sync",
    "aclose": "close",
    "aclosing": "closing",
    "async_each": "each",
    "async_sleep": "sleep",
    "async_waiter": "sync_waiter",
    "build_async_waiter": "build_waiter",
}

ASYNC_NAME = re.compile(r"Async(?=[A-Z])")
PHRASES = ((re.compile(r"\basync (?=def|for|with)"), ""), (re.compile(r"\bawait "), ""))
WORD = re.compile(r"\w+")


def rename(name: str) -> str:
    """Return the name on the blocking side."""
    return NAMES.get(name) or ASYNC_NAME.sub("", name)


def rename_text(text: str) -> str:
    """Return a docstring or comment as it reads on the blocking side."""
    for pattern, replacement in PHRASES:
        text = pattern.sub(replacement, text)
    return WORD.sub(lambda match: rename(match[0]), text)


def convert(source: str) -> str:
    """Return the blocking form of an asynchronous module."""
    lines = source.splitlines(keepends=True)
    edits: list[tuple[tuple[int, int], tuple[int, int], str]] = []
    for token in tokenize.generate_tokens(io.StringIO("".join(lines)).readline):
        if token.type == tokenize.NAME and token.string in {"async", "await"}:
            # The space behind the keyword goes with it.
            edits.append((token.start, (token.end[0], token.end[1] + 1), ""))
        elif token.type == tokenize.NAME and rename(token.string) != token.string:
            edits.append((token.start, token.end, rename(token.string)))
        elif token.type in {tokenize.STRING, tokenize.COMMENT} and rename_text(token.string) != token.string:
            edits.append((token.start, token.end, rename_text(token.string)))
        elif token.type == getattr(tokenize, "FSTRING_MIDDLE", -1) and rename_text(token.string) != token.string:
            raise SystemExit(f"An f-string would read differently on different Python versions: {token.line}")
    for (row, column), (end_row, end_column), text in reversed(edits):
        tail = lines[end_row - 1][end_column:]
        lines[row - 1 : end_row] = [*(lines[row - 1][:column] + text + tail).splitlines(keepends=True)]
    return HEADER + tidy("".join(lines))


def tidy(source: str) -> str:
    """Sort imports and lay out lines, which got shorter, as the formatter would."""
    for command in (["check", "--select", "I", "--fix", "--quiet", "--isolated"], ["format", "--isolated"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--line-length", "120", "--stdin-filename", "module.py", "-"],
            input=source,
            capture_output=True,
            text=True,
            check=True,
            cwd=CLIENT,
        )
        source = done.stdout
    return source


def main() -> int:
    """Write or check, and say which files differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if something would change")
    check = parser.parse_args().check
    wanted = {path.name: convert(path.read_text()) for path in sorted((CLIENT / "_async").glob("*.py"))}
    present = {path.name: path.read_text() for path in sorted((CLIENT / "_sync").glob("*.py"))}
    stale = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))
    if check:
        for name in stale:
            print(f"_sync/{name} is not what _async/{name} makes: run python dev/unasync.py")
        return 1 if stale else 0
    for name in stale:
        target = CLIENT / "_sync" / name
        if name in wanted:
            target.write_text(wanted[name])
        else:
            target.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
