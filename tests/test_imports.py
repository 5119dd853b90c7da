"""The import rules of the house, read off the code itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("edge", "resizer", "cache")

# Pure: standard library and other pure modules only, no I/O, no clock, no event loop.
PURE = {
    *("cache.key", "cache.entry", "cache.orders", "cache.sieve", "cache.gdsf", "cache.errors"),
    *(
        "cache.index.leases",
        "cache.index.breaker",
        "cache.index.causes",
        "cache.index.address",
        "cache.index.slots",
    ),
    *("cache.durability", "cache.health", "cache.layout", "cache.space"),
    "cache.sketch",
    *("cache.index.interface", "resizer.transform", "resizer.geometry", "resizer.formats"),
    *("resizer.job", "resizer.errors", "resizer.orientation", "resizer.gif", "resizer.tiff"),
    *("resizer.jpeg2000", "resizer.strip", "resizer.rights", "resizer.words", "resizer.region"),
    *("resizer.focus", "resizer.qualities", "resizer.watermark", "resizer.thumbhash"),
    *("resizer.blurhash", "resizer.ladder", "resizer.cost", "resizer.fair"),
    *("resizer.admission", "resizer.bar", "edge.pace", "edge.counts"),
    *("edge.summary", "edge.recent"),
}
PURE_FOLDERS = ("edge.http.", "edge.urls.", "edge.policy.", "edge.status.")
PURE_ORIGIN = {
    *("edge.origin.fastcgi.records", "edge.origin.fastcgi.params", "edge.origin.fastcgi.reply"),
    *("edge.origin.address", "edge.origin.messages", "edge.origin.errors", "edge.origin.exchange"),
    *("edge.origin.balance", "edge.origin.latency", "edge.origin.limit", "edge.origin.host"),
    *("edge.origin.http.answer", "edge.origin.http.chunked", "edge.origin.http.fields"),
    *("edge.origin.http.request", "edge.origin.commands", "edge.origin.resumption"),
    "edge.remembered",
    *("edge.origin.s3.bucket", "edge.origin.s3.refusal", "edge.origin.fastcgi.values"),
}
# Tokenizer and hash are C with no I/O; a descriptor is closed where the last slice of it goes.
EXCEPTIONS = {
    ("edge.http.parser", "httptools"),
    ("edge.http.body", "os"),
    ("cache.sketch", "xxhash"),
}
IMPURE_LIBRARY = {
    *("asyncio", "concurrent", "ctypes", "fcntl", "logging", "mmap", "multiprocessing", "os"),
    *("pathlib", "random", "secrets", "select", "selectors", "shutil", "signal", "socket"),
    *("sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "urllib.request"),
}
PIL_ROOMS = {
    *("resizer.animation", "resizer.colour", "resizer.decode", "resizer.encode"),
    *("resizer.pipeline", "resizer.sharpness", "resizer.worker", "resizer.descent"),
    *("resizer.render", "resizer.warm_up"),
    *("resizer.attention", "resizer.effects", "resizer.stamp", "resizer.placeholder"),
}
COMMANDS = (
    *("configuration", "configured", "fsck", "ladder", "node", "options", "purge", "running"),
    *("sandbox", "serve", "urls", "version", "warm"),
)
REDIS_ROOMS = ("server", "topology", "sentinel", "cluster", "link", "redis", "news")
# Third-party libraries, each with the rooms that may know it.
LIBRARY_ROOMS = {
    "PIL": PIL_ROOMS,
    "httptools": {"edge.http.parser"},
    "uvloop": {"edge.start"},
    "prometheus_client": {"edge.prometheus"},
    "click": {"edge.cli", *(f"edge.commands.{room}" for room in COMMANDS)},
    "redis": {f"cache.index.{room}" for room in REDIS_ROOMS},
    "obstore": {"edge.origin.s3.signing"},
    "sqlite3": {f"cache.index.{n}" for n in ("database", "embedded", "log", "catalogue")},
}
READ_METRICS = {"edge.app", "edge.admin", "edge.prometheus"}
# Only the composition root knows these; who uses their work takes it as an argument.
COMPOSED = {
    *("cache.index.redis", "cache.index.embedded", "edge.origin.fastcgi.client"),
    *("edge.origin.http.client", "edge.origin.cgi", "edge.origin.sendfile"),
    "edge.origin.s3.client",
    *("edge.listener", "edge.admin", "edge.handler", "edge.origin.fastcgi.check"),
}
COMPOSERS = {
    *("edge.app", "edge.listeners", "edge.origins", "edge.storage"),
    *("edge.rows.cache", "edge.rows.requests", "edge.rows.now"),
}


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(module: str) -> Iterator[tuple[str, int]]:
    """Every module that a module imports anywhere, and the line."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield name.name, node.lineno
            case ast.ImportFrom(module=str() as base, names=names, level=0):
                yield base, node.lineno
                for name in names:
                    if f"{base}.{name.name}" in MODULES:
                        yield f"{base}.{name.name}", node.lineno
            case ast.ImportFrom(level=level) if level:
                raise AssertionError(f"{module}:{node.lineno}: a relative import")


def is_pure(module: str) -> bool:
    return module in PURE | PURE_ORIGIN or module.startswith(PURE_FOLDERS)


def broken() -> list[str]:
    found = []
    for module in MODULES:
        for name, line in imports(module):
            why = why_not(module, name)
            if why:
                found.append(f"{MODULES[module].relative_to(ROOT)}:{line}: {name}: {why}")
    return found


def why_not(module: str, name: str) -> str:
    """Why a module may not import another; "" when it may."""
    package, top = module.partition(".")[0], name.partition(".")[0]
    if package != "edge" and top in PACKAGES and top != package:
        return "cache and resizer know neither edge nor each other"
    rooms = LIBRARY_ROOMS.get(top)
    if rooms is not None and module not in rooms:
        return f"only {', '.join(sorted(rooms))} may know it"
    if name in COMPOSED and module not in COMPOSERS and not module.startswith(name):
        return f"only {', '.join(sorted(COMPOSERS))} know concrete parts"
    is_row = module.startswith("edge.rows.")
    if name == "edge.metrics" and not is_row and module not in READ_METRICS:
        return "parts count, nobody imports metrics"
    if not is_pure(module) or (module, name) in EXCEPTIONS:
        return ""
    if top in PACKAGES:
        # A package itself is an empty __init__.py.
        return "" if is_pure(name) or MODULES[name].name == "__init__.py" else "is not pure"
    if top not in sys.stdlib_module_names:
        return "a pure module knows the standard library only"
    return "does I/O or tells the time" if IMPURE_LIBRARY & {name, top} else ""


def test_no_rule_is_broken():
    assert broken() == []


def test_the_listed_rooms_are_there():
    listed = PURE | PURE_ORIGIN | PIL_ROOMS | COMPOSED
    assert {name for name in listed if name not in MODULES} == set()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("cache.store", "edge.clock"),
        ("resizer.pool", "cache.key"),
        ("edge.handler", "PIL.Image"),
        ("edge.handler", "edge.metrics"),
        ("edge.source", "cache.index.redis"),
        ("edge.http.date", "time"),
        ("edge.urls.path", "msgspec"),
        ("cache.gdsf", "cache.disk"),
        ("edge.http.range", "edge.clock"),
    ],
)
def test_a_broken_rule_is_seen(module, name):
    assert why_not(module, name)


def test_nobody_imports_the_composition_root():
    importers = {m for m in MODULES for name, _ in imports(m) if name == "edge.app"}
    assert importers == set()  # the commands load it by name, when it is to serve


def test_the_edge_runs_without_pillow():
    """What `halftone serve` imports holds no decoder (P7)."""
    code = "import sys, edge.app; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
