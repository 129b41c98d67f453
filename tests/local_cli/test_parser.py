"""What the command says of itself: its help, its completion of words, and what it needs."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helmr_provider._local_cli import main
from helmr_provider._local_cli.parser import parser

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/command-line.md"


def commands(command: argparse.ArgumentParser, *path: str) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    yield path, command
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, subcommand in action.choices.items():
                yield from commands(subcommand, *path, name)


COMMANDS = list(commands(parser()))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) or "top" for path, _ in COMMANDS])
def test_the_help_of_a_command_says_what_it_does_and_what_each_argument_is(
    path: tuple[str, ...], command: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([*path, "--help"])
    assert left.value.code == 0
    assert command.description is not None
    assert command.description.endswith(".")
    assert command.description[:30] in capsys.readouterr().out
    for action in command._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action


def test_the_reference_has_a_section_for_each_command() -> None:
    leaves = {" ".join(path) for path, command in COMMANDS if not command._subparsers}
    shown = {line.removeprefix("## ") for line in PAGE.read_text().splitlines() if line.startswith("## ")}
    assert shown == leaves


def complete(*words: str) -> list[str]:
    """Return what bash suggests for the last word."""
    script = f"""
        eval "$({sys.executable} -m helmr_provider.local completion bash)"
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _helmr_local; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-uc", script, "bash", *words], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (["r"], ["runs"]),
        (["runs", ""], ["list", "show", "logs", "events", "--help"]),
        (["tokens", "list", "--status", "c"], ["completed", "cancelled"]),
        (["sessions", "list", "--task", "runs", "--lim"], ["--limit"]),
        (["serve", "--port", ""], []),
        (["completion", ""], ["bash", "zsh", "--help"]),
    ],
    ids=str,
)
def test_words_are_completed(words: list[str], suggested: list[str]) -> None:
    assert complete("helmr-local", *words) == suggested


def test_files_are_completed(tmp_path: Path) -> None:
    (tmp_path / "state.db").touch()
    assert complete("helmr-local", "serve", "--db", f"{tmp_path}/st") == [f"{tmp_path}/state.db"]


def test_the_script_for_zsh_runs_the_same_function(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    bash = capsys.readouterr().out
    assert main(["completion", "zsh"]) == 0
    zsh = capsys.readouterr().out
    assert zsh.endswith(bash)
    assert "bashcompinit" in zsh.splitlines()[0]


def test_an_unknown_status_is_refused_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["tokens", "list", "--status", "open"])
    assert left.value.code == 2
    assert "pending" in capsys.readouterr().err


# An interpreter without the packages of the extra.
BARE = "import runpy, sys; sys.modules.update(starlette=None, uvicorn=None); sys.argv[0] = 'helmr-local'; "


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["serve"], 1, "helmr-local: the package starlette is missing; install airflow-provider-helmr[local]\n"),
        (["tasks"], 1, "helmr-local: the package starlette is missing; install airflow-provider-helmr[local]\n"),
        (["--version"], 0, ""),
        (["runs", "list", "--port", "1"], 1, "start one with: helmr-local serve\n"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_without_the_packages_of_the_extra_it_says_so_in_one_line(arguments: list[str], status: int, said: str) -> None:
    code = f"{BARE}runpy.run_module('helmr_provider.local', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (status, bool(said)), done.stderr
    assert done.stderr.endswith(said)


def test_without_the_packages_of_the_extra_the_error_says_which_to_install() -> None:
    code = f"{BARE}from helmr_provider.local import task; from helmr_provider.local import LocalControlPlane"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == ("ModuleNotFoundError: the package starlette is missing; install airflow-provider-helmr[local]"), (
        done.stderr
    )
