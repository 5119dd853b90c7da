"""What passing on a small answer costs: the node and nginx in front of one php-fpm.

python -m tests.bench.fastcgi [--quick] [--out DIR]

The answers say no-store, so every request is a miss that goes to the application. Node and nginx
have core 0, php-fpm and wrk core 1; rounds alternate, the ratio is made within a round. Needs
Debian's nginx, php-fpm and wrk.
"""

import argparse
import http.client
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from tests.bench import machine, proc, sections, wrk
from tests.bench.cache import FAULTS, workspace
from tests.bench.cache_node import CONNECTIONS, DESCRIPTORS, CacheNode, Origin
from tests.bench.crowd import CrowdError
from tests.bench.hits import WIDE
from tests.bench.measure import GENERATOR_CORE, SERVER_CORE
from tests.bench.peers import Nginx
from tests.bench.render_report import Figure
from tests.bench.report import ratio_text
from tests.bench.server import Server, Setup
from tests.bench.stats import Sample, paired_ratio, rotation, summary
from tests.peers import phpfpm

MOST = 2.0
BYTES = 300
CLIENTS = 16
CHILDREN = 8
ROUNDS, QUICK_ROUNDS = 7, 3
SECONDS, QUICK_SECONDS = 3.0, 1.0
TARGET = "/account?page=1"
# One URL that is asked for over and over, and as many as a site has pages, one after the other.
# Where nothing was known of any of them, the node opens its source and asks whether it is stored.
ONE, MANY, NEW = "one URL", "3,000 URLs", "new URLs"
PAGES = 3_000
NEW_A_SECOND = 20_000  # above what either server answers
APPLICATION = f"""<?php
header_remove('X-Powered-By');
header('Content-Type: application/json');
header('Cache-Control: no-store');
header('Content-Length: {BYTES}');
echo str_repeat('x', {BYTES});
"""
METRICS = ("cpu_us", "rps", "p50_us", "p99_us", "disturbed")
HOST = "bench.example"
TITLES = ("server", "CPU us", "req/s", "p50 us", "p99 us", "others on its core")


class Gateway(Nginx):
    """nginx that passes everything on, as Debian's fastcgi_params would have it."""

    def __init__(self, core: int, origin: Origin) -> None:
        super().__init__(core)
        self._origin = origin

    def config(self, setup: Setup) -> str:
        passing = f"""\
        location / {{
            fastcgi_pass unix:{self._origin.socket};
            fastcgi_param SCRIPT_FILENAME {self._origin.script};
{params()}
        }}
"""
        whole = super().config(setup)
        place = whole.rindex("    }\n}")
        return whole[:place] + passing + whole[place:]


def params() -> str:
    """Those of Debian's fastcgi_params."""
    table = (
        ("QUERY_STRING", "$query_string"),
        ("REQUEST_METHOD", "$request_method"),
        ("CONTENT_TYPE", "$content_type"),
        ("CONTENT_LENGTH", "$content_length"),
        ("SCRIPT_NAME", "$fastcgi_script_name"),
        ("REQUEST_URI", "$request_uri"),
        ("DOCUMENT_URI", "$document_uri"),
        ("DOCUMENT_ROOT", "$document_root"),
        ("SERVER_PROTOCOL", "$server_protocol"),
        ("REQUEST_SCHEME", "$scheme"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", "nginx/$nginx_version"),
        ("REMOTE_ADDR", "$remote_addr"),
        ("REMOTE_PORT", "$remote_port"),
        ("SERVER_ADDR", "$server_addr"),
        ("SERVER_PORT", "$server_port"),
        ("SERVER_NAME", "$server_name"),
        ("REDIRECT_STATUS", "200"),
    )
    return "\n".join(f"            fastcgi_param {name} {value};" for name, value in table)


def main() -> int:
    options = _options()
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    missing = [tool for tool in ("nginx", "wrk", "taskset") if shutil.which(tool) is None]
    missing += [] if phpfpm.PROGRAM else ["php-fpm"]
    if missing or len(os.sched_getaffinity(0)) < 2:
        console.print(f"needs two cores and {', '.join(missing) or 'more than this one'}")
        return 1
    about = dict(machine.facts(SERVER_CORE))  # before the run: the commit may change meanwhile
    os.sched_setaffinity(0, {GENERATOR_CORE})
    found: list[sections.Section] = []
    failures: list[str] = []
    with workspace() as folder, console.status("") as status:
        try:
            found += measure(folder, options.quick, status.update, about)
        except FAULTS as error:
            failures.append(f"fastcgi: {type(error).__name__}: {error}")
    if options.quick:
        about["rounds"] = "quick: a rehearsal, not a result"
    report = sections.Report("FastCGI: what passing on costs", about, found, failures)
    for table in sections.tables(report):
        console.print(table)
    for failure in failures:
        console.print(f"not measured: {failure}", style="red", markup=False)
    for path in sections.save(report, options.out, "fastcgi"):
        console.print(f"wrote {path}")
    return 1 if failures else 0


def measure(
    folder: str, quick: bool, say: Callable[[str], None], about: dict[str, str]
) -> list[sections.Section]:
    pages = wrk.Pool(os.path.join(folder, "pages"))
    write_pages(pages, PAGES)
    script = os.path.join(folder, "application.php")
    Path(script).write_text(APPLICATION, encoding="utf-8")
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    samples = []
    with phpfpm.php_fpm(Path(folder), application=Path(script), children=CHILDREN) as fpm:
        proc.pin(proc.tree(fpm.pid), GENERATOR_CORE)
        assert fpm.address.path is not None
        origin = Origin(fpm.address.path, script)
        servers: list[Server] = [
            CacheNode(SERVER_CORE, origin=origin),
            Gateway(SERVER_CORE, origin),
        ]
        about["versions"] = "; ".join(f"{one.name}: {one.version()}" for one in servers)
        try:
            for server in servers:
                say(f"fastcgi: starting {server.name}")
                own = os.path.join(folder, server.name)
                os.mkdir(own)
                os.chmod(own, 0o755)
                server.start(Setup(folder, own, CONNECTIONS, 1, DESCRIPTORS))
                check(server)
                load(server, 1.0)
            by_name = {server.name: server for server in servers}
            for case, pool in ((ONE, None), (MANY, pages), (NEW, pages)):
                for number in range(rounds):
                    for name in rotation(list(by_name), number):
                        say(f"fastcgi: {case}, round {number + 1} of {rounds}, {name}")
                        if case == NEW:
                            write_pages(pages, int(NEW_A_SECOND * seconds), f"{number}-")
                        values = load(by_name[name], seconds, pool)
                        samples.append(Sample(case, number, name, values))
        finally:
            for server in servers:
                server.stop()
    return [section(samples, case, rounds, seconds) for case in (ONE, MANY, NEW)]


def write_pages(pool: wrk.Pool, count: int, mark: str = "") -> None:
    """Ended by a NUL each, as wrk.lua reads them."""
    heads = (
        f"GET /account/{mark}{n}?page={n % 17} HTTP/1.1\r\nHost: {HOST}\r\n\r\n\0"
        for n in range(count)
    )
    Path(pool.path).write_text("".join(heads), encoding="ascii")


def check(server: Server) -> None:
    """Twice, for a cache would show at the second time."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port(), timeout=10)
    try:
        for _ in range(2):
            connection.request("GET", TARGET)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200 or body != b"x" * BYTES:
                raise CrowdError(f"{server.name} answers {answer.status}: {body[:200]!r}")
            if "; hit" in (answer.getheader("Cache-Status") or ""):
                raise CrowdError(f"{server.name} keeps what it may not")
    finally:
        connection.close()


def load(server: Server, seconds: float, pool: wrk.Pool | None = None) -> Mapping[str, float]:
    words = wrk.command(server.url(TARGET), CLIENTS, seconds, pool)
    pids = server.pids()
    core_before, before = proc.core_busy_s(SERVER_CORE), proc.cpu_ns_of(pids)
    run = wrk.run(words, GENERATOR_CORE, seconds)
    used_s = (proc.cpu_ns_of(pids | server.pids()) - before) / 1e9
    core_s = proc.core_busy_s(SERVER_CORE) - core_before
    wrk.check_report(run.report, BYTES)
    return {
        "cpu_us": used_s * 1e6 / run.report.requests,
        "rps": run.report.rps,
        "p50_us": run.report.p50_us,
        "p99_us": run.report.p99_us,
        "disturbed": max(0.0, core_s - used_s) / run.wall_s,
    }


def section(samples: Sequence[Sample], case: str, rounds: int, seconds: float) -> sections.Section:
    ratio = paired_ratio(samples, case, "cpu_us", "node", "nginx")
    assert ratio is not None
    figure = Figure(
        f"miss of a small uncached answer, {case}: CPU / nginx's fastcgi_pass",
        "-" if case == NEW else f"<= {MOST:g}",
        ratio_text(ratio),
        None if case == NEW else ratio.median <= MOST,
    )
    rows = []
    for name in ("node", "nginx"):
        values = [summary(samples, case, name, metric) for metric in METRICS]
        cpu, rps, p50, p99, others = (0.0 if value is None else value.median for value in values)
        cells = [f"{cpu:.1f}", f"{rps:,.0f}", f"{p50:,.0f}", f"{p99:,.0f}", f"{others:.0%}"]
        rows.append([name, *cells])
    about = (
        f"A php-fpm with {CHILDREN} children on a Unix socket says {BYTES} bytes with "
        f"Cache-Control: no-store to every request, here for {case}; neither side keeps "
        f"connections to it, which is both servers' default. wrk's own head, {CLIENTS} "
        f"connections, {rounds} rounds of {seconds:g} s each. CPU is the server's whole process "
        "tree; php-fpm and wrk share the other core and set the pace. The node writes its access "
        "log, nginx none."
    )
    own = [one for one in samples if one.case == case]
    raw = {"samples": [{"round": one.round, "server": one.server, **one.values} for one in own]}
    title = f"Small uncached answers from php-fpm, {case}"
    return sections.Section(case, title, about, [figure], TITLES, rows, raw)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fastcgi")
    parser.add_argument("--quick", action="store_true", help="short rounds: a rehearsal")
    parser.add_argument("--out", default="docs/bench", metavar="DIR", help="where results go")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
