"""A section of settings, each declared once, and what follows from the declaration. Pure.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Log:
        '''What is written down.'''
        access: str = setting(LOG_TARGET, "-", 'A path, "-" for standard output, or "off".')

From that line come the field with its type and default, the check of the file and the environment
(read_table), the annotated default file (annotate) and the dump (dump). setting() has a default,
optional() is None when absent, required() must be given; section() and sections() hold other such
classes. Nothing stops at the first mistake: each goes to report(path, message).
"""

import dataclasses
import difflib
import enum
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar, cast

from edge.settings.document import Path
from edge.settings.kinds import BadItem, Kind
from edge.settings.units import BadValue

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
S = TypeVar("S", bound="DataclassInstance")

Report = Callable[[Path, str], None]

WIDTH: Final = 100
_KEY: Final = "halftone"


class Absent(enum.Enum):
    """The default of a setting that has none. None itself may be a value ("auto")."""

    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Setting:
    """example: TOML text for the default file; is_live: stands there without the comment sign."""

    kind: Kind[object]
    doc: str
    default: object = Absent.ABSENT
    is_required: bool = False
    example: str | None = None
    is_live: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """One table ("name") or, with is_array, any number of them ("[[name]]")."""

    name: str
    cls: "type[DataclassInstance]"
    is_array: bool
    is_live: bool


def setting(kind: Kind[T], default: object, doc: str, *, example: str | None = None) -> T:
    """default as it would stand in the file: it passes the same check."""
    value = kind.parse(default)
    declared = Setting(cast("Kind[object]", kind), doc, value, example=example)
    return dataclasses.field(default=value, metadata={_KEY: declared})


def optional(kind: Kind[T], doc: str, *, example: str, is_live: bool = False) -> T | None:
    declared = Setting(cast("Kind[object]", kind), doc, example=example, is_live=is_live)
    return cast("T | None", dataclasses.field(default=None, metadata={_KEY: declared}))


def required(kind: Kind[T], doc: str, *, example: str) -> T:
    declared = Setting(cast("Kind[object]", kind), doc, is_required=True, example=example)
    return cast("T", dataclasses.field(metadata={_KEY: declared}))


def section(cls: type[S], name: str) -> S:
    declared = Section(name, cls, is_array=False, is_live=True)
    return dataclasses.field(default_factory=cls, metadata={_KEY: declared})


def sections(cls: type[S], name: str, *, is_live: bool = False) -> tuple[S, ...]:
    declared = Section(name, cls, is_array=True, is_live=is_live)
    return cast("tuple[S, ...]", dataclasses.field(default=(), metadata={_KEY: declared}))


def declarations(cls: "type[DataclassInstance]") -> Iterator[tuple[str, str, Setting | Section]]:
    """(field name, name in TOML, declaration), settings before sections."""
    found = [(f.name, f.metadata[_KEY]) for f in dataclasses.fields(cls) if _KEY in f.metadata]
    for name, declared in found:
        if isinstance(declared, Setting):
            yield name, name, declared
    for name, declared in found:
        if isinstance(declared, Section):
            yield name, declared.name, declared


def later(cls: "type[DataclassInstance]") -> Mapping[str, str]:
    """Names of the manual that this release refuses, and why: the class variable LATER."""
    names: Mapping[str, str] = getattr(cls, "LATER", {})
    return names


def read_table(cls: type[S], raw: Mapping[str, object], path: Path, report: Report) -> S | None:
    """The section, with defaults where a value was reported; None where one without default was."""
    values: dict[str, object] = {}
    is_whole = True
    known = {toml: (name, declared) for name, toml, declared in declarations(cls)}
    for key in raw:
        if key not in known:
            report((*path, key), unknown(cls, key))
    for toml, (name, declared) in known.items():
        where = (*path, toml)
        if isinstance(declared, Section):
            values[name] = _read_section(declared, raw.get(toml), where, report)
            continue
        if toml not in raw:
            if declared.is_required:
                report(where, "is missing")
                is_whole = False
            continue
        try:
            values[name] = declared.kind.parse(raw[toml])
        except BadValue as error:
            report((*where, error.name) if isinstance(error, BadItem) else where, str(error))
            is_whole = is_whole and not declared.is_required
    return cls(**values) if is_whole else None


def _read_section(declared: Section, raw: object, path: Path, report: Report) -> object:
    if not declared.is_array:
        if raw is not None and not isinstance(raw, dict):
            report(path, f"must be a table, [{declared.name}]")
        table = raw if isinstance(raw, dict) else {}
        return read_table(declared.cls, table, path, report) or declared.cls()
    if raw is None:
        return ()
    if not isinstance(raw, list) or not all(isinstance(table, dict) for table in raw):
        report(path, f"can be there several times: write [[{declared.name}]] with two brackets")
        return ()
    tables = (read_table(declared.cls, t, (*path, n), report) for n, t in enumerate(raw))
    return tuple(table for table in tables if table is not None)


def unknown(cls: "type[DataclassInstance]", key: str, write: Callable[[str], str] = str) -> str:
    """Why key is no setting of this section, with a hint."""
    if key in later(cls):
        return f"not available in this release: {later(cls)[key]}"
    # A right name in the wrong section is the other common slip.
    for _, toml, declared in declarations(cls):
        if isinstance(declared, Section) and any(
            key == n for _, n, _ in declarations(declared.cls)
        ):
            return f"unknown setting here; it belongs in {header(declared, toml)}"
    names = [toml for _, toml, _ in declarations(cls)]
    close = difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.6)
    if close:
        return f'unknown setting; did you mean "{write(close[0])}"?'
    return "unknown setting"


def header(declared: Section, name: str) -> str:
    return f"[[{name}]]" if declared.is_array else f"[{name}]"


def annotate(cls: "type[DataclassInstance]", name: str = "", mark: str = "") -> Iterator[str]:
    """Lines of the default file. What starts with "#" and no space is TOML, commented out."""
    for _, toml, declared in declarations(cls):
        if isinstance(declared, Setting):
            yield from _annotate_setting(toml, declared, mark)
            continue
        inner = f"{name}.{toml}" if name else toml
        inner_mark = mark if declared.is_live else "#"
        yield ""
        yield from _comment(declared.cls.__doc__ or "")
        yield f"{inner_mark}{header(declared, inner)}"
        yield from annotate(declared.cls, inner, inner_mark)


def _annotate_setting(toml: str, declared: Setting, mark: str) -> Iterator[str]:
    yield ""
    yield from _comment(declared.doc)
    yield from _comment(f"Value: {declared.kind.described}.")
    if declared.default is not Absent.ABSENT and declared.example is not None:
        yield f"# Example: {toml} = {declared.example}"
    has_default = declared.default is not Absent.ABSENT
    text = declared.kind.write(declared.default) if has_default else declared.example
    yield f"{mark if declared.is_live else '#'}{toml} = {text}"


def _comment(text: str) -> list[str]:
    lines = textwrap.wrap(
        " ".join(text.split()), WIDTH - 2, break_on_hyphens=False, break_long_words=False
    )
    return [f"# {line}" for line in lines]


def dump(
    value: "DataclassInstance", name: str = "", *, is_secret_shown: bool = False
) -> Iterator[str]:
    """Lines of TOML that read back as value (but for masked secrets)."""
    for field, toml, declared in declarations(type(value)):
        held = getattr(value, field)
        if isinstance(declared, Setting):
            if held is not None or declared.default is not Absent.ABSENT:
                write = declared.kind.write if is_secret_shown else declared.kind.show
                yield f"{toml} = {write(held)}"
            continue
        inner = f"{name}.{toml}" if name else toml
        for table in held if declared.is_array else (held,):
            yield ""
            yield header(declared, inner)
            yield from dump(table, inner, is_secret_shown=is_secret_shown)
