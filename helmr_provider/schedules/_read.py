"""Schedules declared as text: YAML, of which JSON is a part."""

from __future__ import annotations

from functools import cache
from typing import Any

from helmr_provider.schedules._check import DeclarationError


def read_text(text: str, *, source: str) -> Any:
    """Return the declarations in a text: a list, or a mapping whose only member ``schedules`` is one.

    :param text: the contents of a file, or what a template was rendered to.
    :param source: where it stands, for people.
    :raises DeclarationError: it is neither YAML nor JSON, or says something twice.
    """
    import yaml

    try:
        items = yaml.load(text, Loader=_loader())  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        hint = "" if "alias" not in str(error) else " (a cron expression that begins with * must be quoted)"
        raise DeclarationError([f"{source}: {' '.join(str(error).split())}{hint}"]) from None
    return items["schedules"] if isinstance(items, dict) and set(items) == {"schedules"} else items


@cache
def _loader() -> Any:
    import yaml

    class OnceLoader(yaml.SafeLoader):
        """Refuse a mapping that names a member twice, of which YAML's own loader keeps the last."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the interface of PyYAML
            mapping = super().construct_mapping(node, deep=deep)
            if len(mapping) != len(node.value):
                names = [key.value for key, _ in node.value]
                twice = next(name for name in names if names.count(name) > 1)
                raise yaml.constructor.ConstructorError(None, None, f"member {twice!r} is there twice", node.start_mark)
            return mapping

    return OnceLoader
