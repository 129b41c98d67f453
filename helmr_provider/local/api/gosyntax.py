"""What Go's JSON scanner says about text that is not JSON."""

from __future__ import annotations

_WHITESPACE = " \t\r\n"
_HEX = "0123456789abcdefABCDEF"
_DIGITS = "0123456789"


class _CutShort(Exception):  # noqa: N818 - an event, not an error
    """The text ended inside a value."""


class _Unexpected(Exception):  # noqa: N818 - an event, not an error
    """A character stands where it may not."""

    def __init__(self, character: str, context: str) -> None:
        shown = {"'": "'\\''", '"': "'\"'"}.get(character) or f"'{_escaped(character)}'"
        super().__init__(f"invalid character {shown} {context}")


def syntax_complaint(text: str) -> str | None:
    """Say what is wrong with the first JSON value of a text, in Go's words; None if nothing is."""
    if not text.strip(_WHITESPACE):
        return "EOF"
    scanner = _Scanner(text)
    try:
        scanner.value()
    except _CutShort:
        return "unexpected EOF"
    except RecursionError:
        return "exceeded max depth"
    except _Unexpected as error:
        return str(error)
    return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def value(self) -> None:
        character = self._visible()
        if character == "{":
            self._object()
        elif character == "[":
            self._array()
        elif character == '"':
            self._string()
        elif character == "-" or character in _DIGITS:
            self._number()
        elif character in "tfn":
            self._literal({"t": "true", "f": "false", "n": "null"}[character])
        else:
            raise _Unexpected(character, "looking for beginning of value")

    def _object(self) -> None:
        self.at += 1
        if self._visible() == "}":
            self.at += 1
            return
        while True:
            if self._visible() != '"':
                raise _Unexpected(self._peek(), "looking for beginning of object key string")
            self._string()
            if self._visible() != ":":
                raise _Unexpected(self._peek(), "after object key")
            self.at += 1
            self.value()
            separator = self._visible()
            self.at += 1
            if separator == "}":
                return
            if separator != ",":
                raise _Unexpected(separator, "after object key:value pair")

    def _array(self) -> None:
        self.at += 1
        if self._visible() == "]":
            self.at += 1
            return
        while True:
            self.value()
            separator = self._visible()
            self.at += 1
            if separator == "]":
                return
            if separator != ",":
                raise _Unexpected(separator, "after array element")

    def _string(self) -> None:
        self.at += 1
        while (character := self._next()) != '"':
            if character < " ":
                raise _Unexpected(character, "in string literal")
            if character != "\\":
                continue
            escape = self._next()
            if escape == "u":
                for _ in range(4):
                    digit = self._next()
                    if digit not in _HEX:
                        raise _Unexpected(digit, "in \\u hexadecimal character escape")
            elif escape not in '"\\/bfnrt':
                raise _Unexpected(escape, "in string escape code")

    def _number(self) -> None:
        if self._peek() == "-":
            self.at += 1
            self._digit("in numeric literal")
        leading_zero = self._peek() == "0"
        self.at += 1
        if not leading_zero:
            self._digits()
        if self._rest_starts("."):
            self.at += 1
            self._digit("after decimal point in numeric literal")
            self._digits()
        if self._rest_starts("eE"):
            self.at += 1
            if self._rest_starts("+-"):
                self.at += 1
            self._digit("in exponent of numeric literal")
            self._digits()

    def _literal(self, word: str) -> None:
        self.at += 1
        for expected in word[1:]:
            character = self._next()
            if character != expected:
                raise _Unexpected(character, f"in literal {word} (expecting '{expected}')")

    def _digit(self, context: str) -> None:
        if self._peek() not in _DIGITS:
            raise _Unexpected(self._peek(), context)

    def _digits(self) -> None:
        while self._rest_starts(_DIGITS):
            self.at += 1

    def _rest_starts(self, characters: str) -> bool:
        return self.at < len(self.text) and self.text[self.at] in characters

    def _visible(self) -> str:
        while self._peek() in _WHITESPACE:
            self.at += 1
        return self._peek()

    def _peek(self) -> str:
        if self.at >= len(self.text):
            raise _CutShort
        return self.text[self.at]

    def _next(self) -> str:
        character = self._peek()
        self.at += 1
        return character


def _escaped(character: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}
    if character in named:
        return named[character]
    return character if character.isprintable() else f"\\x{ord(character):02x}"
