"""docs/metrics.md, written from the rows themselves: python -m tests.metrics_page

Every row of edge/rows/ under the first sentences of the function that makes it. Read from the
source, because which rows a node has depends on its configuration.
"""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PAGE: Final = "docs/metrics.md"
# In the order of the page.
ROWS: Final = (
    *(
        "node",
        "now",
        "folders",
        "requests",
        "staleness",
        "index",
        "cache",
        "rungs",
        "purges",
        "shared",
    ),
    *("origins", "resizer", "arrivals", "leases"),
)
MODULES: Final = (*(f"edge.rows.{name}" for name in ROWS), "edge.metrics")
KINDS: Final = {
    "Counter": "counter",
    "Gauge": "gauge",
    "Highest": "gauge",
    "Derived": "gauge",
    "Histogram": "histogram",
}
# Where the function's own words are for programmers.
ABOUT: Final = {
    "metric_rows": "Requests, connections, renders.",
    "__init__": "The metrics themselves.",
}
# As Prometheus gets to see them.
SUFFIXES: Final = {"Counter": "_total", "Histogram": "_bucket, _sum, _count"}

HEAD: Final = """# Metrics

What `/metrics` on the admin listener says, for Prometheus and OpenMetrics. Any worker may be asked
and speaks for all of its node. Counters begin anew when the program is started; gauges are sums
over the workers, unless their line says otherwise. The status page, `/` on the same listener, shows
these numbers and no others, and `/status.json` has them for scripts. `halftone stats` shows the
most important ones, [alerts.yml](../deploy/prometheus/alerts.yml) those that a person should be
told of, [operations.md](operations.md) how they look when something has died.

This page is made from the code by `python -m tests.metrics_page`. `halftone_build_info` has the
versions of what is running in its labels.
"""


def rows(function: ast.AST, names: dict[str, object]) -> Iterator[tuple[str, str, str, str]]:
    """Name, kind, labels and help of each row that a function makes, in its order."""
    calls = [one for one in ast.walk(function) if isinstance(one, ast.Call)]
    for call in sorted(calls, key=lambda one: one.lineno):
        kind = call.func.id if isinstance(call.func, ast.Name) else ""
        if kind not in KINDS:
            continue
        name, text, *rest = call.args
        labels = ast.literal_eval(rest[0]) if kind != "Histogram" else ()
        # A name that other parts know, too, stands in a constant.
        stem = names[name.id] if isinstance(name, ast.Name) else ast.literal_eval(name)
        suffix = SUFFIXES.get(kind, "")
        yield f"{stem}{suffix}", KINDS[kind], ", ".join(labels), ast.literal_eval(text)


def sections(repository: Path) -> Iterator[str]:
    for module in MODULES:
        names = vars(importlib.import_module(module))
        tree = ast.parse((repository / f"{module.replace('.', '/')}.py").read_text())
        functions = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
        for function in sorted(functions, key=lambda one: one.lineno):
            table = list(rows(function, names))
            if not table:
                continue
            about = (ast.get_docstring(function) or "").partition("\n\n")[0].replace("\n", " ")
            yield f"\n{ABOUT.get(function.name, about)}\n"
            yield "\n| name | kind | labels | |\n|---|---|---|---|\n"
            for name, kind, labels, text in table:
                yield f"| `{name}` | {kind} | {labels} | {text} |\n"


def page(repository: Path) -> str:
    return HEAD + "".join(sections(repository))


if __name__ == "__main__":
    here = Path(__file__).parents[1]
    (here / PAGE).write_text(page(here))
