"""The command `completion`: a script for a shell, made from the parser, that completes commands and options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from helmr_provider._local_cli.parser import parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

_SCRIPT = """\
_helmr_local() {
    local word command= last="${COMP_WORDS[COMP_CWORD-1]}" typed="${COMP_WORDS[COMP_CWORD]}" words=
    for word in "${COMP_WORDS[@]:1:$((COMP_CWORD - 1))}"; do
        case "$command $word" in
            @COMMANDS@) command="$command $word" ;;
        esac
    done
    case "$command $last" in
        @FILES@)
            compopt -o filenames 2>/dev/null
            COMPREPLY=($(compgen -f -- "$typed"))
            return ;;
@VALUES@
        *) case "$command" in
@WORDS@
        esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$typed"))
}
complete -F _helmr_local helmr-local
"""
# zsh runs functions of bash.
_BEFORE = {"bash": "", "zsh": "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"}


def completion(options: argparse.Namespace) -> int:
    """Print the script."""
    commands = list(_commands("", parser()))
    files: list[str] = []
    values: dict[str, list[str]] = {}
    for path, command in commands:
        for action in _actions(command):
            names = [f"{path} {name}" for name in action.option_strings if action.nargs != 0]
            # Nothing is suggested for an option with a free value.
            (files if action.type is Path else values.setdefault(_joined(action.choices), [])).extend(names)
    cases = (f'        {_either(names)}) words="{words}" ;;' for words, names in values.items() if names)
    words = (f'            "{path}") words="{_joined(_words(command))}" ;;' for path, command in commands)
    script = _SCRIPT.replace("@COMMANDS@", _either(path for path, _ in commands if path))
    script = script.replace("@FILES@", _either(files)).replace("@VALUES@", "\n".join(cases))
    sys.stdout.write(_BEFORE[options.shell] + script.replace("@WORDS@", "\n".join(words)))
    return 0


def _commands(path: str, command: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Return each command with its path, a space before each word of it."""
    yield path, command
    for action in _actions(command):
        if isinstance(action.choices, dict):
            for name, subcommand in action.choices.items():
                yield from _commands(f"{path} {name}", subcommand)


def _actions(command: argparse.ArgumentParser) -> list[argparse.Action]:
    return command._actions  # noqa: SLF001 - argparse has no public list of its arguments


def _words(command: argparse.ArgumentParser) -> list[str]:
    """Return the subcommands, fixed arguments and long options that can follow a command."""
    fixed = [str(word) for action in _actions(command) if not action.option_strings for word in action.choices or ()]
    return fixed + [name for action in _actions(command) for name in action.option_strings if name.startswith("--")]


def _joined(words: Iterable[object] | None) -> str:
    return " ".join(map(str, words or ()))


def _either(texts: Iterable[str]) -> str:
    """Return a pattern of the shell that one of these texts matches."""
    return "|".join(f'"{text}"' for text in texts)
