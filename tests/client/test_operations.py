"""The docstrings of the client name the operations that its methods send, and every operation has a method."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from helmr_provider.client import AsyncHelmrClient, HelmrClient
from helmr_provider.client._wire.endpoints import ENDPOINTS

TREE = Path(__file__).resolve().parents[2] / "helmr_provider" / "client" / "_sync"

_WAIT = ("countRuns", "listRuns", "getRun", "getRunEvents")
_OUTPUT = ("listWorkspaceExecStdout", "listWorkspaceExecStderr", "listWorkspacePtyOutput")
# Methods that call other methods; their docstrings describe the result instead.
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
# Operations that no method sends, and why.
LEFT_OUT = {
    "startSessionAndWait": "the server waits 30 seconds, whatever limit is sent",
}
# These change the client and send nothing.
LOCAL = {"scoped", "with_options", "close"}

Function = ast.FunctionDef


@dataclass
class Class:
    """One class of the client and its public methods."""

    name: str
    bases: list[str]
    methods: dict[str, Function] = field(default_factory=dict)


def read_classes() -> dict[str, Class]:
    classes: dict[str, Class] = {}
    for path in sorted(TREE.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.ClassDef):
                continue
            found = Class(node.name, [name_of(base) for base in node.bases])
            for member in node.body:
                if isinstance(member, Function) and not member.name.startswith("_"):
                    decorators = {ast.unparse(each) for each in member.decorator_list}
                    if not decorators & {"property", "cached_property", "overload"}:
                        found.methods[member.name] = member
            classes[node.name] = found
    for each in classes.values():
        for base in each.bases:
            if base in classes:
                each.methods = classes[base].methods | each.methods
    return classes


def name_of(node: ast.expr | None) -> str:
    return "" if node is None else re.sub(r"\[.*", "", ast.unparse(node))


def operations(owner: Class, method: Function, classes: dict[str, Class]) -> tuple[str, ...] | None:
    """Return the operations of a method: empty if it sends nothing, None if the docstring does not say."""
    text = ast.get_docstring(method) or ""
    qualified = f"{owner.name}.{method.name}"
    named = tuple(dict.fromkeys(word for word in re.findall(r"\w+", text) if word in ENDPOINTS))
    if qualified in COMPOSED:
        named = COMPOSED[qualified]
    elif not named and (see := re.search(r"see :meth:`(\w+)\.(\w+)`", text)):
        other = classes[see[1]]
        return operations(other, other.methods[see[2]], classes)
    constants = (node.value for node in ast.walk(method) if isinstance(node, ast.Constant))
    own = {value for value in constants if isinstance(value, str) and value in ENDPOINTS}
    if own - set(named):
        raise AssertionError(
            f"{qualified} sends {', '.join(sorted(own - set(named)))}, but its docstring does not say so"
        )
    if unknown := set(named) - ENDPOINTS.keys():
        raise AssertionError(f"{qualified}: there is no operation {', '.join(sorted(unknown))}")
    if not named and "sends nothing" not in text and method.name not in LOCAL:
        return None
    return tuple(name for name in named if not name.endswith("ByExternalId"))


def named_in(owner: Class, classes: dict[str, Class]) -> set[str]:
    found: set[str] = set()
    for each in owner.methods.values():
        named = operations(owner, each, classes)
        assert named is not None, f"{owner.name}.{each.name} names no operation, nor says that it sends nothing"
        found |= set(named)
    return found


def test_every_operation_has_a_method_or_a_reason_not_to() -> None:
    classes = read_classes()
    public = [owner for owner in classes.values() if owner.methods and owner.name not in {"Transport", "_Records"}]
    reached = {name for owner in public for name in named_in(owner, classes)}
    missing = {name for name in ENDPOINTS if name not in reached and not name.endswith("ByExternalId")}
    assert missing == LEFT_OUT.keys()


def method(source: str) -> ast.FunctionDef:
    (found,) = ast.parse(source).body
    assert isinstance(found, ast.FunctionDef)
    return found


def test_a_docstring_that_hides_an_operation_is_refused() -> None:
    owner = Class("Runs", [])
    lying = method('def stop(self):\n    """Stop a run (getRun)."""\n    return self._transport.call("cancelRun")')
    with pytest.raises(AssertionError, match=r"Runs\.stop sends cancelRun"):
        operations(owner, lying, {})
    silent = method('def stop(self):\n    """Stop a run."""\n    return self._other.stop()')
    assert operations(owner, silent, {}) is None
    honest = method('def open(self):\n    """Return a handle; sends nothing."""\n    return Handle()')
    assert operations(owner, honest, {}) == ()


@pytest.mark.parametrize("client_class", [HelmrClient, AsyncHelmrClient])
def test_a_client_shows_its_namespaces_and_little_else(client_class: type) -> None:
    client = client_class(url="http://127.0.0.1:9", api_key="hlmr_sk_key")
    namespaces = {"auth", "deployments", "runs", "sandboxes", "schedules", "secrets", "sessions", "tasks", "tokens"}
    methods = {"health", "ready", "scoped", "with_options", "close" if client_class is HelmrClient else "aclose"}
    public = {name for name in dir(client) if not name.startswith("_")}
    assert public == {*namespaces, "workspaces", *methods, "url", "max_streams"}
