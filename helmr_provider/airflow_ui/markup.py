"""HTML elements. All text is escaped here, and nowhere else. No I/O."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from helmr_provider.client._secrets import scrub

if TYPE_CHECKING:
    from collections.abc import Iterable

_EMPTY: Final = frozenset({"br", "rect", "line", "path"})
# Control characters have no place in HTML; overrides of the text's direction would reorder what follows them.
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Markup(str):
    """Finished HTML. Only this module makes it; every other text is escaped when an element takes it."""

    __slots__ = ()


def clean(value: object) -> str:
    """Return text as it may be shown: without Helmr's credentials, and without characters that do not print.

    :param value: text, or anything with a text form.
    """
    return _UNPRINTABLE.sub("\ufffd", scrub(str(value)))


def text(value: object) -> Markup:
    """Escape a text; leave markup alone.

    :param value: text, or anything with a text form.
    """
    return value if isinstance(value, Markup) else Markup(escape(clean(value)))


def join(parts: Iterable[object]) -> Markup:
    """Put texts and elements one after the other; ``None`` is left out.

    :param parts: texts and elements.
    """
    return Markup("".join(text(part) for part in parts if part is not None))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """Return an element.

    :param tag: its name.
    :param children: texts and elements; ``None`` is left out.
    :param attributes: underscores become hyphens, one at the end is dropped; ``None`` and ``False`` are left out, and
        ``True`` gives an attribute without a value.
    """
    written = "".join(
        _attribute(name.rstrip("_").replace("_", "-"), value)
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _EMPTY:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def _attribute(name: str, value: object) -> str:
    return f" {name}" if value is True else f' {name}="{escape(clean(value))}"'


def is_web_address(url: object) -> bool:
    """Say whether a link may lead there: http and https only.

    :param url: any value.
    """
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def link(url: str, label: object, *, class_: str | None = None, here: bool = False) -> Markup:
    """Return a link, or its label alone when it may not lead there.

    :param url: address; a relative one only with ``here``.
    :param label: text or markup.
    :param here: whether the link leads to a page of Airflow, which opens in the same window.
    """
    if not here and not is_web_address(url):
        return element("span", label)
    # The frame may open no windows itself: the script hands the link to the page around it.
    return element("a", label, href=url, class_=class_, data_open="here" if here else "new", rel="noopener noreferrer")
