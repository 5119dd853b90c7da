"""A TOML text (toml.io/en/v1.0.0) and the line on which each of its keys stands. Pure.

tomllib gives the values and no positions, so a scanner of our own walks the same text for lines
alone. It decides nothing about values: tomllib has the word on what is legal, and on an illegal
text the scanner stops where it no longer understands. Rules:

1. A path is the chain of keys from the top; the tables of an array are numbered from 0:
   the third [[site]] is ("site", 2), its [site.expire] is ("site", 2, "expire").
2. A key stands where it is written first; a table also where a dotted key or a header names it.
3. A syntax error is put on the line where its statement starts. A text that is cut before that
   statement parses, cut behind it does not: the culprit is found by bisection, not in messages.
"""

import bisect
import contextlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Path = tuple[str | int, ...]

# tomllib recurses per level of nesting, we too; a configuration has three.
MAX_DEPTH: Final = 32

_BASIC: Final = r'"(?:[^"\\\n]|\\[^\n])*"'
_LITERAL: Final = r"'[^'\n]*'"
_KEY: Final = re.compile(rf"""(?:{_BASIC}|{_LITERAL}|[^"'\n=\]])+""")
# Up to two quotes may stand directly before the closing three: greedy on quotes, lazy on the text.
_STRING: Final = re.compile(
    rf"""\"\"\"(?:[^\\]|\\.)*?\"{{3,5}}|'''.*?'{{3,5}}|{_BASIC}|{_LITERAL}""", re.DOTALL
)
_BARE: Final = re.compile(r"""[^"'\[\]{},#\n]+""")
_INDENT: Final = re.compile(r"[ \t]*")
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")


class BadDocument(ValueError):
    """Not TOML; the text is a sentence for the operator."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    values: Mapping[str, object]
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int | None:
        """Where path stands, or the innermost table around it that stands anywhere."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


EMPTY: Final = Document({}, {})


def parse_document(text: str) -> Document:
    """Raises BadDocument."""
    scanner = _Scanner(text)
    problem = _problem(text)
    if problem is None:
        return Document(tomllib.loads(text), scanner.lines)
    # Cut behind statement i the text fails for every i from the culprit on.
    cuts = [*scanner.ends, len(text)]
    culprit = bisect.bisect_left(cuts, True, key=lambda end: _problem(text[:end]) is not None)
    raise BadDocument(scanner.starts[culprit] if culprit < len(scanner.starts) else 1, problem)


def _problem(text: str) -> str | None:
    try:
        tomllib.loads(text)
    except RecursionError:
        return "values are nested too deeply"
    except ValueError as error:  # TOMLDecodeError, and int() on thousands of digits
        return str(error)
    return None


class _LostError(Exception):
    """The scanner does not understand the text, which is then not TOML."""


class _Scanner:
    """starts: the line on which each statement starts; ends: the offset where each one ends."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self.starts: list[int] = []
        self.ends: list[int] = []
        self._text = text
        self._at = 0
        self._line = 1
        self._counts: dict[Path, int] = {}  # arrays of tables: how many so far
        with contextlib.suppress(_LostError):
            self._document()

    def _document(self) -> None:
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            self.starts.append(self._line)
            if self._next("[["):
                table = self._header(is_array=True)
            elif self._next("["):
                table = self._header(is_array=False)
            else:
                self._pair(table, 0)
            self.ends.append(self._at)
            self._skip(_BLANK)

    def _header(self, *, is_array: bool) -> Path:
        brackets = 2 if is_array else 1
        self._take("[" * brackets)
        *outer, last = self._key()
        self._take("]" * brackets)
        path: Path = ()
        for part in outer:
            path = self._inner(path, part)
        if not is_array:
            return self._inner(path, last)
        self._mark((*path, last))
        number = self._counts.get((*path, last), 0)
        self._counts[(*path, last)] = number + 1
        return self._mark((*path, last, number))

    def _inner(self, path: Path, part: str) -> Path:
        """The table that a header means by part: of an array of tables, the last one so far."""
        path = self._mark((*path, part))
        return (*path, self._counts[path] - 1) if path in self._counts else path

    def _pair(self, table: Path, depth: int) -> None:
        for part in self._key():
            table = self._mark((*table, part))
        self._take("=")
        self._skip(_INDENT)
        self._value(table, depth)

    def _value(self, path: Path, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise _LostError
        if self._next("["):
            self._array(path, depth)
        elif self._next("{"):
            self._inline_table(path, depth)
        elif not (self._skip(_STRING) or self._skip(_BARE)):
            raise _LostError

    def _array(self, path: Path, depth: int) -> None:
        self._take("[")
        self._skip(_BLANK)
        number = 0
        while not self._next("]"):
            self._value(self._mark((*path, number)), depth + 1)
            number += 1
            self._skip(_BLANK)
            if self._next(","):
                self._take(",")
                self._skip(_BLANK)
            elif not self._next("]"):
                raise _LostError
        self._take("]")

    def _inline_table(self, path: Path, depth: int) -> None:
        self._take("{")
        self._skip(_INDENT)
        while not self._next("}"):
            self._pair(path, depth + 1)
            self._skip(_INDENT)
            if self._next(","):
                self._take(",")
                self._skip(_INDENT)
            elif not self._next("}"):
                raise _LostError
        self._take("}")

    def _key(self) -> list[str]:
        found = _KEY.match(self._text, self._at)
        if found is None:
            raise _LostError
        self._at = found.end()
        # tomllib itself reads the quotes, escapes and dots of a key.
        try:
            inner: object = tomllib.loads(f"{found[0]} = 0")
        except ValueError:
            raise _LostError from None
        parts: list[str] = []
        while isinstance(inner, dict):
            if len(inner) != 1:  # "#" alone made it a comment
                raise _LostError
            ((part, inner),) = inner.items()
            parts.append(part)
        return parts

    def _mark(self, path: Path) -> Path:
        self.lines.setdefault(path, self._line)
        return path

    def _next(self, token: str) -> bool:
        return self._text.startswith(token, self._at)

    def _take(self, token: str) -> None:
        if not self._next(token):
            raise _LostError
        self._at += len(token)

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self._text, self._at)
        if found is None:
            return False
        self._line += found[0].count("\n")
        self._at = found.end()
        return True
