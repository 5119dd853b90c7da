# ruff: noqa: RUF009 - setting() returns a dataclass field, made once, as dataclasses.field() does
"""The configuration: command line over environment over file over defaults, whole or refused.

A Config that exists is legal: every value in its limits, every name resolved, every folder seen.
What is wrong is collected, not only the first of it, and each Problem says where the value came
from: FILE:LINE, `environment HALFTONE__CACHE__SIZE` or `command line`. The environment names a
setting by its path in capitals; arrays are numbered from 0: HALFTONE__SITE__0__ROOT.
"""

import copy
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from edge.policy.forwarded import ForwardingField
from edge.settings import preflight
from edge.settings.addresses import Address, FrontCache, Network
from edge.settings.declare import (
    Section,
    annotate,
    declarations,
    dump,
    optional,
    read_table,
    section,
    sections,
    setting,
    unknown,
)
from edge.settings.document import EMPTY, BadDocument, Document, Path, parse_document
from edge.settings.kinds import Choice, Duration, Number, Several
from edge.settings.sections import (
    ACCOUNT,
    ADDRESS,
    FRONT_CACHE,
    NAME,
    NETWORK,
    PATH,
    Cache,
    Connection,
    Log,
    Origin,
    Resizer,
    Site,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DEFAULT_PATH: Final = "/etc/halftone/halftone.toml"
PREFIX: Final = "HALFTONE__"
COMMAND_LINE: Final = "command line"
# A thousand sites fit; a wrong file (a log, a picture) does not fill the memory.
MAX_FILE_BYTES: Final = 4 * 2**20

_HEAD: Final = """\
# halftone.toml: the configuration of halftone, and its manual.
#
# A line that starts with "#" and no space is a setting with its default (or, in [[origin]], with an
# example): take the "#" away to change it. Sizes are written "64MiB", times "250ms", "10s", "1h".
# Check this file with: halftone check --config FILE
# The environment overrides it: HALFTONE__CACHE__SIZE=10GiB, HALFTONE__SITE__0__ROOT=/srv/pictures,
# lists separated by commas. The command line overrides both. What is unknown is an error.
"""


@dataclass(frozen=True, slots=True)
class Problem:
    """place: where the value was written. setting: its path, empty where place names it already."""

    place: str
    setting: str
    message: str
    order: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.setting, self.message) if part)


class ConfigError(Exception):
    """problems: all of them, in the order of the file, then of the environment."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The node itself."""

    listen: tuple[Address, ...] = setting(
        Several(ADDRESS, least=1),
        ["0.0.0.0:8080"],
        "Where clients connect: the public listeners. Port 0 picks a free port.",
    )
    admin: Address = setting(
        ADDRESS,
        "127.0.0.1:8081",
        "Where status page, metrics, health checks and purges are answered. It asks for no"
        " password: keep it on loopback or a private network.",
    )
    workers: int = setting(
        Number(1, 64),
        1,
        "Serving processes; one for each processor core is the most that helps. More than one needs"
        " a Redis index, which they share. A change takes effect at a restart.",
    )
    name: str = setting(
        NAME, "edge1", "What this node calls itself in Via and Cache-Status; unique in the farm."
    )
    trusted_proxies: tuple[Network, ...] = setting(
        Several(NETWORK),
        [],
        "Whose X-Forwarded-For (or Forwarded) and X-Forwarded-Proto are believed: the Squids in"
        " front. Empty: nobody's.",
        example='["10.0.0.0/8"]',
    )
    forwarded: ForwardingField = setting(
        Choice(ForwardingField),
        "x-forwarded-for",
        "The one field in which trusted_proxies name the client. The other is ignored: a proxy that"
        " writes one passes the other on as the client sent it.",
    )
    downstream: tuple[FrontCache, ...] = setting(
        Several(FRONT_CACHE),
        [],
        "The caches in front of this node, Squids, which are told of every purge, URL by URL, in"
        " this order: inner ones before outer ones. http: a PURGE for each, which the Squid's ACLs"
        " must allow from here; htcp: a CLR by UDP. URLs that were handed out are written down for"
        " it only while this is set.",
        example='["http://squid1:3128", "htcp://squid2:4827"]',
    )
    downstream_again: float = setting(
        Duration(0.0, 600.0),
        "0s",
        "Tell them once more after this time, for an outer cache may just have been filled from an"
        " inner one that still had the old bytes. 0s: once is enough.",
    )
    user: str | None = optional(
        ACCOUNT,
        "Who the serving processes are, when halftone is started by root: they give up root's"
        " rights before they serve anything.",
        example='"halftone"',
    )
    group: str | None = optional(
        ACCOUNT, "Their group; the user's own when only the user is named.", example='"halftone"'
    )
    pid_file: str | None = optional(
        PATH,
        "A file with the process id of the master, for scripts that send signals. systemd needs"
        " none.",
        example='"/run/halftone.pid"',
    )
    cache: Cache = section(Cache, "cache")
    resizer: Resizer = section(Resizer, "resizer")
    connection: Connection = section(Connection, "connection")
    log: Log = section(Log, "log")
    origins: tuple[Origin, ...] = sections(Origin, "origin")
    sites: tuple[Site, ...] = sections(Site, "site", is_live=True)

    # Reads the same sources again, for HUP: a new Config, or ConfigError and the old one stays.
    reload: "Callable[[], Config] | None" = field(default=None, repr=False, compare=False)

    @staticmethod
    def for_folder(
        root: str,
        listen: str | None = None,
        admin: str | None = None,
        cache: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> "Config":
        """Zero configuration: one default site on root, every grammar, on loopback.

        The cache outlives a restart: it is named after root. Raises ConfigError.
        """
        environ = environ if environ is not None else {}
        base: dict[str, object] = {
            "listen": ["127.0.0.1:8080"],
            "site": [{"root": os.path.abspath(root)}],
        }
        if cache is None and (folder := default_cache(root, environ)) is not None:
            base["cache"] = {"path": folder}
        given = {"listen": listen, "admin": admin, "cache.path": cache and os.path.abspath(cache)}
        overrides = {name: text for name, text in given.items() if text is not None}
        return _load(
            functools.partial(_no_file, base), COMMAND_LINE, dict(environ), overrides, True
        )

    def digest(self) -> str:
        """Short name of these very settings, for the start-up line: equal on nodes set up alike."""
        text = "\n".join(dump(self, is_secret_shown=True))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def toml(self) -> str:
        """The effective configuration, with secrets masked."""
        return "\n".join(dump(self)) + "\n"


def default_text() -> str:
    """The annotated default file, deploy/halftone.toml."""
    return _HEAD + "\n".join(annotate(Config)) + "\n"


def default_cache(root: str, environ: Mapping[str, str]) -> str | None:
    """A folder of its own for each root, below the user's cache folder (XDG Base Directory 0.8)."""
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # "All paths set in these environment variables must be absolute"
        home = environ.get("HOME", "")
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, ".cache")
    digest = hashlib.blake2b(os.fsencode(os.path.realpath(root)), digest_size=8).hexdigest()
    return os.path.join(base, "halftone", digest)


def load(
    path: str | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, str],
    *,
    is_checked: bool = True,
) -> Config:
    """The configuration from a file (None: defaults alone), environment and command line.

    overrides: dotted setting -> text, as in the environment ("cache.path", "/x"). is_checked False
    leaves out what depends on other settings and on this machine. Raises ConfigError.
    """
    read = functools.partial(_no_file, {}) if path is None else functools.partial(_read_file, path)
    return _load(read, path or "defaults", dict(environ), dict(overrides), is_checked)


def _no_file(values: Mapping[str, object]) -> Document:
    return Document(copy.deepcopy(values), EMPTY.lines)


def _read_file(path: str) -> Document:
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem(path, "", f"cannot be read: {error.strerror}")]) from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError([Problem(path, "", f"is larger than {MAX_FILE_BYTES} bytes")])
    try:
        return parse_document(raw.decode())
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(f"{path}:{line}", "", "is not UTF-8")]) from error
    except BadDocument as error:
        raise ConfigError([Problem(f"{path}:{error.line}", "", str(error))]) from error


def _load(
    read: Callable[[], Document],
    file: str,
    environ: Mapping[str, str],
    overrides: Mapping[str, str],
    is_checked: bool,
) -> Config:
    loading = _Loading(read(), file)
    assigned = [(name, text) for name, text in environ.items() if name.startswith(PREFIX)]
    # In order of their numbers, so that SITE__0 is there when SITE__1 comes.
    for name, text in sorted(
        assigned, key=lambda pair: [part.zfill(9) for part in pair[0].split("__")]
    ):
        loading.assign(name.removeprefix(PREFIX).lower().split("__"), text, f"environment {name}")
    for name, text in overrides.items():
        loading.assign(name.split("."), text, COMMAND_LINE)
    config = read_table(Config, loading.values, (), loading.report)
    assert config is not None  # no setting at the top is required
    if is_checked:
        loading.check(config)
    if loading.problems:
        raise ConfigError(sorted(loading.problems, key=lambda problem: problem.order))
    again = functools.partial(_load, read, file, environ, overrides, is_checked)
    return _with_reload(config, again)


def _with_reload(config: Config, again: Callable[[], Config]) -> Config:
    values = {name: getattr(config, name) for name, _, _ in declarations(Config)}
    return Config(**values, reload=again)


class _Loading:
    """The values of all sources in one tree, and for each the place that it came from."""

    def __init__(self, document: Document, file: str) -> None:
        self.values: dict[str, object] = copy.deepcopy(dict(document.values))
        self.problems: list[Problem] = []
        self._document = document
        self._file = file
        self._places: dict[Path, str] = {}
        self._reported: set[Path] = set()

    def report(self, path: Path, message: str) -> None:
        self._reported.add(path)
        place, line = self._place(path)
        names = ".".join(str(part) for part in path if isinstance(part, str))
        named = place.startswith("environment ")
        self.problems.append(Problem(place, "" if named else names, message, (named, line)))

    def _place(self, path: Path) -> tuple[str, int]:
        around = path
        while around:
            if around in self._places:
                return self._places[around], 0
            if around in self._document.lines:
                break
            around = around[:-1]
        line = self._document.line(path)
        return (f"{self._file}:{line}", line) if line is not None else (self._file, 0)

    def assign(self, names: list[str], text: str, place: str) -> None:
        """Put one setting, given as text, into the tree."""
        cls: type[DataclassInstance] = Config
        table: dict[str, object] = self.values
        path: Path = ()
        rest = list(names)
        while rest:
            name = rest.pop(0)
            declared = next((d for _, toml, d in declarations(cls) if toml == name), None)
            if declared is None:
                self._refuse(
                    path, place, unknown(cls, name, functools.partial(_spell, names, name))
                )
                return
            path = (*path, name)
            if not isinstance(declared, Section):
                if rest:
                    self._refuse(path, place, f"{name} is a setting, nothing stands below it")
                    return
                table[name] = declared.kind.from_text(text)
                self._places[path] = place
                return
            if not declared.is_array:
                inner = table.setdefault(name, {})
            else:
                tables = table.setdefault(name, [])
                number = rest.pop(0) if rest else ""
                if not (number.isascii() and number.isdigit() and len(number) <= 6):
                    self._refuse(
                        path, place, f"needs a number behind {name.upper()}: __0 is the first"
                    )
                    return
                if not isinstance(tables, list):
                    return  # the file has something else here, which is reported there
                if int(number) > len(tables):
                    self._refuse(path, place, f"number {len(tables)} would be the next one")
                    return
                if int(number) == len(tables):
                    tables.append({})
                    self._places[(*path, len(tables) - 1)] = place
                path = (*path, int(number))
                inner = tables[int(number)]
            if not isinstance(inner, dict):
                return  # likewise
            cls, table = declared.cls, inner
        self._refuse(path, place, "is a section; name one of its settings")

    def _refuse(self, path: Path, place: str, message: str) -> None:
        self._reported.add(path)
        self.problems.append(Problem(place, "", message, (1, 0)))

    def check(self, config: Config) -> None:
        """What depends on more than one setting, where those settings themselves were right."""

        def report(path: Path, message: str) -> None:
            related = (p for p in self._reported if p[: len(path)] == path or path[: len(p)] == p)
            if not any(related):
                self.report(path, message)

        # Names as written: an origin whose other settings are wrong is still there to be named.
        written = self.values.get("origin")
        tables = written if isinstance(written, list) else []
        names = [str(table.get("name")) for table in tables if isinstance(table, dict)]
        preflight.check_workers(config.workers, config.cache.index, report)
        preflight.check_account(config.user, config.group, report)
        preflight.check_sockets(config.listen, config.admin, report)
        preflight.check_origin_names(names, report)
        preflight.check_origin_hosts(config.origins, report)
        preflight.check_origin_kinds(config.origins, report)
        preflight.check_sendfile_roots(config.origins, config.cache, report)
        preflight.check_sites(config.sites, names, report)
        preflight.check_roots(config.sites, config.cache, report)
        preflight.check_watermarks(config.sites, report)
        preflight.check_cache(config.cache, report)
        preflight.check_log(config.log, report)


def _spell(names: list[str], wrong: str, right: str) -> str:
    """The environment's name of a setting, with one part put right."""
    return PREFIX + "__".join(right if name == wrong else name for name in names).upper()
