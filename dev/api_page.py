"""Make docs/api.md from the client: one line for each public method, with the operations that it sends.

The operations stand in the docstrings. What keeps them true: an operation that a method's own code names must stand in
its docstring (or below, where a docstring names none), every name must be one of the endpoint table, every method must
have operations or say that it sends nothing, and an operation that no method has is listed as such.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from helmr_provider.client._wire.endpoints import ENDPOINTS  # noqa: E402 - of this checkout, wherever this is called

TREE = ROOT / "helmr_provider" / "client" / "_sync"
PAGE = ROOT / "docs" / "api.md"

_WAIT = ("countRuns", "listRuns", "getRun", "getRunEvents")
_OUTPUT = ("listWorkspaceExecStdout", "listWorkspaceExecStderr", "listWorkspacePtyOutput")
# Methods that send what other methods send, and whose docstrings speak of the outcome instead.
COMPOSED: dict[str, tuple[str, ...]] = {
    "Runs.wait": _WAIT,
    "Runs.wait_many": _WAIT,
    "Sessions.start_and_wait": ("startSession", *_WAIT),
    "RunEvents.subscribe": ("getRun", "getRunEvents"),
    "RunEvents.follow_records": ("getRun", "getRunEvents"),
    "RunLogs.follow": ("getRunLogs",),
    "ExecHandle.wait": ("getWorkspaceExec",),
    "PtyHandle.wait_until_open": ("getWorkspacePty",),
    "ByteStream.list": _OUTPUT,
    "ByteStream.stream": _OUTPUT,
    "SessionInput.iter": ("listSessionInputRecords",),
    "SessionOutput.iter": ("listSessionOutputRecords",),
    "SessionInput.list": ("listSessionInputRecords",),
    "SessionOutput.list": ("listSessionOutputRecords",),
}
INTRODUCTION = (
    "Made by `dev/api_page.py`; change the docstrings, not this page. Everything below is also on `AsyncHelmrClient`, "
    "with `await` before each call and `async for` over iterators. Parameters, units and errors are in the docstrings. "
    "Where a session is named by its external id, the operation is its `…ByExternalId` twin."
)
# Operations that no method sends, and why.
LEFT_OUT = {
    "startSessionAndWait": "the server waits 30 seconds, whatever it was asked for; "
    "`sessions.start_and_wait` starts, and then waits as `runs.wait` does",
}
# They change what the client is, and nothing on the server.
LOCAL = {"scoped", "single_shot", "close", "bound_to"}

Function = ast.FunctionDef


@dataclass
class Class:
    """One class of the client and its public members."""

    name: str
    bases: list[str]
    methods: dict[str, Function] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)


def read_classes() -> dict[str, Class]:
    classes: dict[str, Class] = {}
    for path in sorted(TREE.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.ClassDef):
                continue
            found = Class(node.name, [name_of(base) for base in node.bases])
            for member in node.body:
                if isinstance(member, Function) and member.name == "__init__":
                    found.properties |= attributes(member)
                if isinstance(member, Function) and not member.name.startswith("_"):
                    marks = {ast.unparse(mark) for mark in member.decorator_list}
                    if marks & {"property", "cached_property"}:
                        found.properties[member.name] = name_of(member.returns)
                    elif "overload" not in marks:
                        found.methods[member.name] = member
            classes[node.name] = found
    for each in classes.values():
        for base in each.bases:
            if base in classes:
                each.methods = classes[base].methods | each.methods
                each.properties = classes[base].properties | each.properties
    return classes


def attributes(method: Function) -> dict[str, str]:
    """Give the public attributes that are made with a call of a class."""
    return {
        node.targets[0].attr: name_of(node.value.func)
        for node in ast.walk(method)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Attribute)
        and not node.targets[0].attr.startswith("_")
        and isinstance(node.value, ast.Call)
    }


def name_of(node: ast.expr | None) -> str:
    return "" if node is None else re.sub(r"\[.*", "", ast.unparse(node))


def places(classes: dict[str, Class]) -> dict[str, list[str]]:
    """Find how a user comes to an object of each class: the shortest way, and the attributes that hold another one."""
    found = {"HelmrClient": ["client"]}
    queue = deque(found)
    while queue:
        owner = queue.popleft()
        members = [(f"{found[owner][0]}.{name}", kind) for name, kind in classes[owner].properties.items()]
        members += [
            (f"{found[owner][0]}.{name}(…)", name_of(each.returns)) for name, each in classes[owner].methods.items()
        ]
        for place, returned in members:
            if returned in classes and returned not in found:
                found[returned] = [place]
                queue.append(returned)
            elif returned in classes and not place.endswith(")"):
                found[returned].append(place)
    return found


def operations(owner: Class, method: Function, classes: dict[str, Class]) -> tuple[str, ...] | None:
    """Give the operations of a method; empty when it sends nothing, None when nobody says."""
    text = ast.get_docstring(method) or ""
    qualified = f"{owner.name}.{method.name}"
    told = tuple(dict.fromkeys(word for word in re.findall(r"\w+", text) if word in ENDPOINTS))
    if qualified in COMPOSED:
        told = COMPOSED[qualified]
    elif not told and (see := re.search(r"see :meth:`(\w+)\.(\w+)`", text)):
        other = classes[see[1]]
        return operations(other, other.methods[see[2]], classes)
    constants = (node.value for node in ast.walk(method) if isinstance(node, ast.Constant))
    own = {value for value in constants if isinstance(value, str) and value in ENDPOINTS}
    if own - set(told):
        raise SystemExit(f"{qualified} sends {', '.join(sorted(own - set(told)))}, but its docstring does not say so")
    if unknown := set(told) - ENDPOINTS.keys():
        raise SystemExit(f"{qualified}: there is no operation {', '.join(sorted(unknown))}")
    if not told and "sends nothing" not in text and method.name not in LOCAL:
        return None
    return tuple(name for name in told if not name.endswith("ByExternalId"))


def signature(method: Function) -> str:
    shown: list[str] = []
    arguments = method.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    shown = [each.arg + ("" if index < required else "=…") for index, each in enumerate(positional) if index]
    if arguments.vararg:
        shown.append(f"*{arguments.vararg.arg}")
    elif arguments.kwonlyargs:
        shown.append("*")
    shown += [
        each.arg + ("" if default is None else "=…")
        for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return f"{method.name}({', '.join(shown)})"


def returns(method: Function) -> str:
    shown = ast.unparse(method.returns) if method.returns else ""
    return re.sub(r"\bbuiltins\.", "", shown).replace("Stream[", "Iterator[").replace("|", "\\|")


def summary(method: Function) -> str:
    text = (ast.get_docstring(method) or "").split("\n\n")[0].split("\n:")[0].replace("\n", " ")
    first = re.split(r"(?<=[^A-Z]\.) ", text)[0]
    first = re.sub(r" \([^()]*\)", lambda found: "" if names_operation(found[0]) else found[0], first)
    first = re.sub(r"; see :meth:.*", ".", first)
    first = re.sub(r"; sends nothing", "", first)
    return re.sub(r":\w+:`([^`]*)`", r"`\1`", first.replace("``", "`")).replace("|", "\\|")


def names_operation(text: str) -> bool:
    return any(word in ENDPOINTS for word in re.findall(r"\w+", text))


def page() -> str:
    classes = read_classes()
    lines = [
        "# The client's methods",
        "",
        INTRODUCTION,
    ]
    reached: set[str] = set()
    for name, where in places(classes).items():
        owner = classes[name]
        if not owner.methods:
            continue
        lines += [
            "",
            f"## {', '.join(f'`{place}`' for place in where)}: {name}",
            "",
            "| Method | Result | Operation | |",
            "| --- | --- | --- | --- |",
        ]
        for method in owner.methods.values():
            told = operations(owner, method, classes)
            if told is None:
                raise SystemExit(f"{name}.{method.name}: the docstring names no operation, nor that it sends nothing")
            reached |= set(told)
            shown = ", ".join(f"`{each}`" for each in told) or "none"
            lines.append(f"| `{signature(method)}` | `{returns(method)}` | {shown} | {summary(method)} |")
    missing = {each for each in ENDPOINTS if each not in reached and not each.endswith("ByExternalId")}
    if missing != LEFT_OUT.keys():
        raise SystemExit(f"without a method and a reason, or with both: {', '.join(sorted(missing ^ LEFT_OUT.keys()))}")
    lines += ["", "## Operations that no method sends", "", *(f"- `{name}`: {why}" for name, why in LEFT_OUT.items())]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if something would change")
    made = page()
    if not parser.parse_args().check:
        PAGE.write_text(made)
    elif not PAGE.exists() or PAGE.read_text() != made:
        print("docs/api.md is not what the docstrings make: run python dev/api_page.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
