"""What the documentation site shows that is read from the code: tables of parameters, the client, forms, commands.

Pages ask for it with the directives below; autodoc does the rest. Everything is read when the site is built, so that
the reference follows the code without being edited.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes  # type: ignore[import-untyped, unused-ignore]
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "helmr_provider"
CLIENT = "helmr_provider.client"
# Pages that show a document from the root of the repository, where readers of the repository expect it.
ROOT_DOCUMENTS = {
    "changelog": "CHANGELOG.md",
    "client-examples": "examples/README.md",
    "contributing": "CONTRIBUTING.md",
    "security-policy": "SECURITY.md",
    "explanation/architecture": "ARCHITECTURE.md",
}


# Operators, sensors, triggers, the hook and the notifier: one table of parameters each.


@dataclass
class Parameter:
    """One parameter of a class, from a signature and a docstring."""

    name: str
    annotation: str
    default: str | None
    templated: bool
    text: list[str]


def parameters(cls: type) -> list[Parameter]:
    """Return all parameters of a class of ours: its own first, then those that its bases add."""
    texts: dict[str, list[str]] = {}
    found: dict[str, Parameter] = {}
    templates = set(getattr(cls, "template_fields", ()))
    ours = [each for each in inspect.getmro(cls) if each.__module__.startswith(PACKAGE)]
    for each in ours:
        for name, text in split_docstring(own_docstring(each))[1].items():
            texts.setdefault(name, text)
    for each in ours:
        # Airflow wraps the constructors of operators.
        if "__init__" not in vars(each):
            continue
        signature = inspect.signature(inspect.unwrap(vars(each)["__init__"]))
        for parameter in list(signature.parameters.values())[1:]:
            if parameter.kind in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL} or parameter.name in found:
                continue
            text = texts.get(parameter.name, [])
            marked = any("(templated)" in line for line in text)
            found[parameter.name] = Parameter(
                parameter.name,
                annotation(parameter.annotation),
                None if parameter.default is parameter.empty else shown(parameter.default, parameter.name),
                marked or parameter.name in templates,
                [line.replace(" (templated)", "") for line in text],
            )
    return list(found.values())


def annotation(value: Any) -> str:
    return (
        "" if value is inspect.Parameter.empty else value if isinstance(value, str) else inspect.formatannotation(value)
    )


def shown(value: Any, name: str) -> str:
    """Return a default as a reader would write it."""
    if name == "deferrable":
        return "[operators] default_deferrable"
    if isinstance(value, frozenset | set):
        return "{" + ", ".join(sorted(map(repr, value))) + "}"
    if type(value).__module__.startswith(PACKAGE):
        return "not set"
    return repr(value)


def own_docstring(cls: type) -> list[str]:
    return inspect.cleandoc(vars(cls).get("__doc__") or "").splitlines()


def split_docstring(lines: Iterable[str]) -> tuple[list[str], dict[str, list[str]], list[str]]:
    """Split a docstring into its text, its parameters and its other fields."""
    text: list[str] = []
    found: dict[str, list[str]] = {}
    others: list[str] = []
    into = text
    for line in lines:
        if start := re.match(r":param (\w+): ?(.*)", line):
            into = found[start[1]] = [start[2]]
        elif line.startswith(":"):
            into = others
            into.append(line)
        elif into is not text and line and not line.startswith(" "):
            into = text
            into.append(line)
        else:
            into.append(line.strip() if into is not text and into is not others else line)
    return text, found, others


def table_of(found: list[Parameter]) -> Iterator[str]:
    """Yield the table as reStructuredText."""
    yield from ("", ".. list-table::", "   :class: parameters", "   :header-rows: 1", "   :widths: 26 30 44", "")
    yield from ("   * - Parameter", "     - Type and default", "     - Meaning")
    for each in found:
        yield f"   * - ``{each.name}``"
        if each.templated:
            yield "       :bdg-secondary-line:`templated`"
        elif each.default is None:
            yield ""
        if each.default is None:
            yield "       :bdg-primary-line:`required`"
        kind = each.annotation.replace("`", "")
        lines = [f"``{kind}``"] if kind else []
        if each.default is not None:
            lines += ["", f"default ``{each.default}``"]
        yield "     - " + (lines[0] if lines else "")
        for line in lines[1:]:
            yield f"       {line}".rstrip()
        yield "     - " + (each.text[0] if each.text else "")
        for line in each.text[1:]:
            yield f"       {line}"
    yield ""


def has_table(kind: str, thing: Any) -> bool:
    """Whether this is a class whose parameters a table shows."""
    if kind != "class" or not thing.__module__.startswith(PACKAGE):
        return False
    bases = {base.__name__ for base in inspect.getmro(thing)}
    return bool(bases & {"BaseOperator", "BaseTrigger", "BaseNotifier", "BaseHook"})


def process_docstring(_app: Sphinx, kind: str, _name: str, thing: Any, _options: Any, lines: list[str]) -> None:
    if has_table(kind, thing):
        text, _, others = split_docstring(lines)
        found = parameters(thing)
        lines[:] = [*text, "", *(table_of(found) if found else ()), *others, ""]
    else:
        lines[:] = [line.replace(" (templated)", "") for line in lines]


def process_signature(
    _app: Sphinx, kind: str, _name: str, thing: Any, _options: Any, _arguments: str, returned: str
) -> tuple[str, str] | None:
    return ("", returned) if has_table(kind, thing) else None


def skip_member(_app: Sphinx, _kind: str, _name: str, thing: Any, _skip: bool, _options: Any) -> bool | None:  # noqa: FBT001
    """Skip fields of named tuples, which their class describes."""
    return True if (getattr(thing, "__doc__", "") or "").startswith("Alias for field number") else None


# The client.


class ClientReference(SphinxDirective):
    """All namespaces and handles of the blocking client, in the order in which a caller comes to them."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        public = importlib.import_module(CLIENT).__all__
        for name, cls in reachable():
            title = f"``{name}``"
            path = f"{CLIENT}.{cls.__name__}" if cls.__name__ in public else f"{cls.__module__}.{cls.__name__}"
            lines += [title, "-" * len(title), "", f".. autoclass:: {path}", "   :members:"]
            lines += ["   :inherited-members: BaseModel, str", ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def reachable() -> list[tuple[str, type]]:
    """Return the classes that a caller gets from a client, each with the shortest expression that leads to it."""
    first = importlib.import_module(CLIENT).HelmrClient
    package = first.__module__.rpartition(".")[0]
    found: dict[type, str] = {first: "client"}
    queue = deque([first])
    while queue:
        owner = queue.popleft()
        for name, cls in members(owner, package):
            if cls not in found:
                found[cls] = f"{found[owner]}.{name}"
                queue.append(cls)
    return [(place, cls) for cls, place in found.items()]


def members(owner: type, package: str) -> Iterator[tuple[str, type]]:
    for name in dir(owner):
        if name.startswith("_"):
            continue
        member = inspect.getattr_static(owner, name)
        function = getattr(member, "func", None) or getattr(member, "fget", None) or member
        returned = getattr(function, "__annotations__", {}).get("return")
        found = vars(sys.modules[owner.__module__]).get(re.sub(r"\[.*", "", returned)) if returned else None
        if isinstance(found, type) and found.__module__.startswith(package):
            yield (name if function is not member else f"{name}(…)"), found


class ClientNames(SphinxDirective):
    """The names of one kind that the client exports: errors, events, models, or others."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        wanted = self.arguments[0]
        lines: list[str] = []
        for name, thing in exported().items():
            if kind_of(name, thing) == wanted:
                lines += [f".. autoclass:: {CLIENT}.{name}", "   :members:"]
                lines += ["   :undoc-members:", "   :exclude-members: model_config"] if wanted != "errors" else []
                lines += [""]
        if not lines:
            raise self.error(f"nothing is of the kind {wanted}")
        return self.parse_text_to_nodes("\n".join(lines))


def exported() -> dict[str, type]:
    """Return the classes that the client exports, handles and namespaces excepted."""
    client = importlib.import_module(CLIENT)
    shown_elsewhere = {cls for _, cls in reachable()}
    found = {name: getattr(client, name) for name in sorted(client.__all__)}
    return {
        name: thing
        for name, thing in found.items()
        if isinstance(thing, type) and thing not in shown_elsewhere and not name.startswith("Async")
    }


def kind_of(name: str, thing: type) -> str:
    """Sort a class of the client."""
    if issubclass(thing, BaseException):
        return "errors"
    if name.endswith(("Event", "EventRecord")):
        return "events"
    return "models" if hasattr(thing, "model_fields") else "others"


# Forms and commands.


class ConnectionExtras(SphinxDirective):
    """The fields of the connection form that are kept in the connection's extra."""

    def run(self) -> list[nodes.Node]:
        from helmr_provider.get_provider_info import CONNECTION_FIELDS

        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 22 14 64", ""]
        lines += ["   * - Extra", "     - Type", "     - Meaning"]
        for name, described in CONNECTION_FIELDS.items():
            kind = next(each for each in described["schema"]["type"] if each != "null")
            lines += [f"   * - ``{name}``", f"     - {kind}", f"     - {described['description']}"]
        return self.parse_text_to_nodes("\n".join(lines))


class CommandHelp(SphinxDirective):
    """What a command prints when it is asked for help."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        program, *rest = shlex.split(self.arguments[0])
        command = [sys.executable, "-m", program, *rest, "--help"]
        environment = os.environ | {"COLUMNS": "88", "NO_COLOR": "1", "PYTHON_COLORS": "0"}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise self.error(f"{self.arguments[0]} --help failed: {done.stderr}")
        return [nodes.literal_block(done.stdout, done.stdout, language="text")]


# Documents and pictures.


def read_root_document(app: Sphinx, docname: str, source: list[str]) -> None:
    """Show a document of the repository's root as a page; its links lead to pages where there are any."""
    if docname not in ROOT_DOCUMENTS:
        return
    pages = {document: page for page, document in ROOT_DOCUMENTS.items()}
    here = Path(docname).parent

    def link(found: re.Match[str]) -> str:
        text, target, heading = found[1], found[2], found[3] or ""
        if re.match(r"https?:", target):
            return found[0]
        if not target or pages.get(target) == docname:
            return f"[{text}]({heading})"
        if target in pages:
            return f"[{text}]({os.path.relpath(pages[target] + '.md', here)}{heading})"
        if target.startswith("docs/"):
            return f"[{text}]({os.path.relpath(target.removeprefix('docs/'), here)}{heading})"
        return text if text.startswith("`") else f"{text} (`{target}`)"

    app.env.note_dependency(ROOT / ROOT_DOCUMENTS[docname])
    text = (ROOT / ROOT_DOCUMENTS[docname]).read_text()
    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#\s]*)(#[^)\s]*)?\)", link, text)
    source[0] = re.sub(
        r"!\[([^\]]*)\]\(docs/([^)]+)\)", lambda f: f"![{f[1]}]({os.path.relpath(f[2], here)})", source[0]
    )


class InlineDrawings(SphinxPostTransform):
    """Put drawings into the page itself, where they take the colours of the light or the dark page."""

    default_priority = 5  # before images are collected
    formats = ("html",)

    def run(self, **_: Any) -> None:
        for image in list(self.document.findall(nodes.image)):
            if not image["uri"].endswith(".svg"):
                continue
            drawing = (Path(self.app.srcdir) / image["uri"]).read_text()
            drawing = drawing[drawing.index("<svg") :]
            label = nodes.Text(image.get("alt", "")).astext().replace('"', "&quot;")
            # The site chooses the colours, not the system of the reader.
            drawing = drawing.replace(" standalone", "")
            drawing = drawing.replace("<svg ", f'<svg class="drawing" role="img" aria-label="{label}" ', 1)
            image.replace_self(nodes.raw("", drawing, format="html"))


def import_everything() -> None:
    """Import the package before autodoc does, which would pretend to be a type checker and import in circles."""
    for module in pkgutil.walk_packages(importlib.import_module(PACKAGE).__path__, f"{PACKAGE}."):
        if not module.name.endswith("__main__"):
            # Some modules serve only beside an optional package.
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(module.name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything with Sphinx."""
    import_everything()
    app.add_directive("client-reference", ClientReference)
    app.add_directive("client-names", ClientNames)
    app.add_directive("connection-extras", ConnectionExtras)
    app.add_directive("command-help", CommandHelp)
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("autodoc-process-signature", process_signature)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("source-read", read_root_document)
    app.add_post_transform(InlineDrawings)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
