"""The kinds of value that a setting can have: read from TOML or from text, and written back. Pure.

parse() takes what tomllib gives and returns a legal value or raises BadValue: nobody checks it
again. write() is its inverse, as TOML. from_text() makes of an environment variable what tomllib
would have made of the file; it never fails, parse() has the say.
"""

import abc
import enum
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from edge.settings.units import (
    MAX_DIGITS,
    BadValue,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

T = TypeVar("T")
E = TypeVar("E", bound=enum.StrEnum)

# Longer than any list that a person writes; a bound for what is compared pairwise.
MAX_ITEMS: Final = 1000


def quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are a subset of it but for DEL, which must be escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


class Kind(abc.ABC, Generic[T]):
    @property
    @abc.abstractmethod
    def described(self) -> str:
        """What may stand here, as a noun phrase for messages and the manual."""

    @abc.abstractmethod
    def parse(self, raw: object) -> T:
        """Raises BadValue."""

    @abc.abstractmethod
    def write(self, value: T) -> str: ...

    def from_text(self, text: str) -> object:
        return text

    def show(self, value: T) -> str:
        """As write(), without secrets."""
        return self.write(value)


@dataclass(frozen=True, slots=True)
class Written(Kind[T]):
    """One TOML string, read by a function that raises BadValue; reveal is its inverse."""

    read: Callable[[str], T]
    described: str
    reveal: Callable[[T], str] = str
    masked: Callable[[T], str] | None = None

    def parse(self, raw: object) -> T:
        if not isinstance(raw, str):
            raise BadValue(f"must be {self.described}, in quotes")
        return self.read(raw)

    def write(self, value: T) -> str:
        return quote(self.reveal(value))

    def show(self, value: T) -> str:
        return self.write(value) if self.masked is None else quote(self.masked(value))


@dataclass(frozen=True, slots=True)
class Number(Kind[int]):
    minimum: int
    maximum: int

    @property
    def described(self) -> str:
        return f"a whole number, {self.minimum} to {self.maximum}"

    def parse(self, raw: object) -> int:
        # bool is an int to Python, not to the operator.
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise BadValue(f"must be {self.described}, not {_echo(raw)}")
        if not self.minimum <= raw <= self.maximum:
            raise BadValue(f"must be {self.minimum} to {self.maximum}, not {raw}")
        return raw

    def write(self, value: int) -> str:
        return str(value)

    def from_text(self, text: str) -> object:
        is_number = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
        return int(text) if is_number else text


@dataclass(frozen=True, slots=True)
class Size(Kind[int]):
    minimum: int
    maximum: int

    @property
    def described(self) -> str:
        return f"a size, {format_size(self.minimum)} to {format_size(self.maximum)}"

    def parse(self, raw: object) -> int:
        if isinstance(raw, str):
            size = parse_size(raw)
        elif isinstance(raw, int) and not isinstance(raw, bool):
            size = raw
        else:
            raise BadValue(f'must be {self.described}, like "64MiB"')
        if not self.minimum <= size <= self.maximum:
            raise BadValue(f"must be {self.described.removeprefix('a size, ')}, not {_echo(raw)}")
        return size

    def write(self, value: int) -> str:
        return quote(format_size(value))


@dataclass(frozen=True, slots=True)
class Duration(Kind[float]):
    """Seconds."""

    minimum: float
    maximum: float

    @property
    def described(self) -> str:
        return f"a time, {format_duration(self.minimum)} to {format_duration(self.maximum)}"

    def parse(self, raw: object) -> float:
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            raise BadValue(f'needs a unit and quotes: "{raw}s" for seconds')
        if not isinstance(raw, str):
            raise BadValue(f'must be {self.described}, like "10s"')
        seconds = parse_duration(raw)
        if not self.minimum <= seconds <= self.maximum:
            raise BadValue(f"must be {self.described.removeprefix('a time, ')}, not {raw!r}")
        return seconds

    def write(self, value: float) -> str:
        return quote(format_duration(value))


@dataclass(frozen=True, slots=True)
class Switch(Kind[bool]):
    described: str = "true or false"

    def parse(self, raw: object) -> bool:
        if not isinstance(raw, bool):
            raise BadValue(f"must be true or false, without quotes, not {_echo(raw)}")
        return raw

    def write(self, value: bool) -> str:
        return "true" if value else "false"

    def from_text(self, text: str) -> object:
        return {"true": True, "false": False}.get(text.lower(), text)


@dataclass(frozen=True, slots=True)
class Choice(Kind[E]):
    """One word of an enumeration. later: words that this release does not know yet."""

    words: type[E]
    later: tuple[str, ...] = ()

    @property
    def described(self) -> str:
        *words, last = (f'"{word}"' for word in self.words)
        return f"{', '.join(words)} or {last}" if words else last

    def parse(self, raw: object) -> E:
        for word in self.words:
            if raw == word.value:
                return word
        if isinstance(raw, str) and raw in self.later:
            raise BadValue(f'"{raw}" is not available in this release; use {self.described}')
        raise BadValue(f"must be {self.described}, not {_echo(raw)}")

    def write(self, value: E) -> str:
        return quote(value.value)


@dataclass(frozen=True, slots=True)
class Auto(Kind[int | None]):
    """A number, or None for "auto"."""

    number: Number

    @property
    def described(self) -> str:
        return f'"auto", or {self.number.described}'

    def parse(self, raw: object) -> int | None:
        if raw == "auto":
            return None
        if isinstance(raw, str):
            raise BadValue(f"must be {self.described}, not {_echo(raw)}")
        return self.number.parse(raw)

    def write(self, value: int | None) -> str:
        return quote("auto") if value is None else self.number.write(value)

    def from_text(self, text: str) -> object:
        return self.number.from_text(text)


@dataclass(frozen=True, slots=True)
class Several(Kind[tuple[T, ...]]):
    """A list without repetitions. In the environment: separated by commas, or a TOML list."""

    item: Kind[T]
    least: int = 0
    is_ascending: bool = False
    sort_key: Callable[[T], float] = field(default=lambda _: 0.0, repr=False)

    @property
    def described(self) -> str:
        return f"a list, of {self.item.described}"

    def parse(self, raw: object) -> tuple[T, ...]:
        if not isinstance(raw, list):
            hint = f"; write [{quote(raw)}]" if isinstance(raw, str) else ""
            raise BadValue(f"must be a list in square brackets{hint}")
        if not self.least <= len(raw) <= MAX_ITEMS:
            raise BadValue(f"must have {self.least} to {MAX_ITEMS} items, not {len(raw)}")
        items: list[T] = []
        for item in raw:
            value = self.item.parse(item)
            if value in items:
                raise BadValue(f"{self.item.show(value)} is there twice")
            items.append(value)
        if self.is_ascending and items != sorted(items, key=self.sort_key):
            raise BadValue("must be in ascending order")
        return tuple(items)

    def write(self, value: tuple[T, ...]) -> str:
        return f"[{', '.join(map(self.item.write, value))}]"

    def show(self, value: tuple[T, ...]) -> str:
        return f"[{', '.join(map(self.item.show, value))}]"

    def from_text(self, text: str) -> object:
        if text.lstrip().startswith("["):
            try:
                values: Mapping[str, object] = tomllib.loads(f"list = {text}")
            except (ValueError, RecursionError):
                return text
            return values["list"] if len(values) == 1 else text
        items = [item.strip() for item in text.split(",")] if text.strip() else []
        return [self.item.from_text(item) for item in items]


class BadItem(BadValue):
    """One value of a table cannot be what it is; name is its key."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class Named(Kind[tuple[tuple[str, T], ...]]):
    """A table: names, each with a value. In the environment: NAME=VALUE separated by commas, or a
    TOML table. read_name raises BadValue."""

    read_name: Callable[[str], str]
    item: Kind[T]
    most: int

    @property
    def described(self) -> str:
        return f"a table of names, with {self.item.described} each"

    def parse(self, raw: object) -> tuple[tuple[str, T], ...]:
        if not isinstance(raw, dict):
            raise BadValue(f"must be {self.described}, in curly brackets, not {_echo(raw)}")
        if len(raw) > self.most:
            raise BadValue(f"must have {self.most} items at most, not {len(raw)}")
        items = tuple(self._parse_item(name, value) for name, value in raw.items())
        names = [name for name, _ in items]
        for name in names:
            if names.count(name) > 1:  # two spellings of one
                raise BadItem(name, f"{name} is there twice")
        return items

    def _parse_item(self, name: str, raw: object) -> tuple[str, T]:
        try:
            return self.read_name(name), self.item.parse(raw)
        except BadValue as error:
            raise BadItem(name, str(error)) from error

    def write(self, value: tuple[tuple[str, T], ...]) -> str:
        items = ", ".join(f"{_key(name)} = {self.item.write(held)}" for name, held in value)
        return f"{{ {items} }}" if items else "{}"

    def from_text(self, text: str) -> object:
        if text.lstrip().startswith("{"):
            try:
                values: Mapping[str, object] = tomllib.loads(f"table = {text}")
            except (ValueError, RecursionError):
                return text
            return values["table"] if len(values) == 1 else text
        pairs = [pair.partition("=") for pair in text.split(",")] if text.strip() else []
        if not all(sign for _, sign, _ in pairs):
            return text
        return {name.strip(): self.item.from_text(held.strip()) for name, _, held in pairs}


def _key(name: str) -> str:
    """TOML lets letters, digits, - and _ stand bare."""
    is_bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if is_bare else quote(name)


def _echo(raw: object) -> str:
    """A rejected value, short and printable."""
    if isinstance(raw, list | dict):
        return "a list" if isinstance(raw, list) else "a table"
    text = {True: "true", False: "false"}[raw] if isinstance(raw, bool) else repr(raw)
    return text if len(text) <= 60 else f"{text[:57]}..."
