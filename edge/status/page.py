"""The status page as HTML: one file, nothing to load, no script. Pure.

It is for a person at 3 a.m. with a telephone: what is wrong stands first, in sentences; then how
much is going on; then the origins, which are what usually fails; then everything else. Without its
style sheet it is a text in the same order.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from edge.status.markup import Markup, element, join
from edge.status.shown import (
    Amount,
    Cache,
    Downstream,
    Folder,
    Host,
    Index,
    Level,
    Orders,
    Origin,
    Queue,
    Ratio,
    Remark,
    Resizer,
    Status,
    Traffic,
)
from edge.status.style import SHEET

# Seconds from one look to the next, that may be asked for.
PACES: Final = (5, 30)
# Of a meter: from here on it is worth a look, and from here on it is full.
_NEARLY: Final = 0.8
_FULL: Final = 0.98
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_LEVELS: Final = {
    Level.WELL: "well",
    Level.WARNING: "serving, with warnings",
    Level.PROBLEM: "in trouble",
}
_SIGNS: Final = {"running": "●", "held": "▲", "probing": "◐"}
_KINDS: Final = {"object": "hits, in pictures", "byte": "hits, in bytes", "cost": "hits, in work"}
_NOTHING: Final = "–"


def page(status: Status, pace_s: int | None = None) -> str:
    """pace_s: of PACES, to be shown anew by the browser itself; None: never."""
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="robots", content="noindex"),
        element("title", f"{status.name}: {_LEVELS[status.level]}"),
        element("style", Markup(SHEET)),
    ]
    if pace_s in PACES:
        head.append(element("meta", http_equiv="refresh", content=pace_s))
    body = [
        _header(status),
        *_remarks(status.remarks),
        _figures(status),
        element("h2", "Origins"),
        *(map(_origin, status.origins) if status.origins else [_paragraph("No site asks one.")]),
        element("h2", "The node"),
        element(
            "div",
            _queues(status.queues),
            _cache(status.cache),
            _index(status.index, len(status.workers)),
            _orders(status.orders, status.now),
            *_maybe_downstream(status.downstream),
            _resizer(status.resizer),
            _connections(status),
            _answers(status.traffic),
            _workers(status),
            class_="columns",
        ),
        _footer(pace_s),
    ]
    document = element("html", element("head", *head), element("body", *body), lang="en")
    return f"<!DOCTYPE html>\n{document}\n"


# The top


def _header(status: Status) -> Markup:
    facts = [
        f"halftone {status.version}",
        f"up {duration(status.uptime_s)}",
        f"since {moment(status.started_at)}",
        _number_of(len(status.workers), "worker"),
        f"configuration {status.configuration}",
        f"looked at {moment(status.now)}",
    ]
    pill = element("span", _LEVELS[status.level], class_=f"pill {status.level}")
    # The spaces are for a text browser.
    return element(
        "header", element("h1", status.name), " ", pill, " ", element("p", " · ".join(facts))
    )


def _remarks(remarks: Sequence[Remark]) -> Iterator[Markup]:
    if not remarks:
        return
    items = [
        element(
            "li",
            element("strong", f"{remark.level.capitalize()}: "),
            element("span", remark.text),
            class_=str(remark.level),
        )
        for remark in remarks
    ]
    yield element("ul", *items, class_="remarks")


def _figures(status: Status) -> Markup:
    gained = {one.name: one.number for one in status.traffic.last_minute}
    errors = gained.get("errors", 0.0)
    waiting = status.queues[0] if status.queues else None
    public = [one for one in status.listeners if one.role == "public"]
    figures = [
        _figure("requests a second", rate(status.traffic.per_second), "over the last minute"),
        _figure(
            "errors (5xx)",
            count(errors),
            "in the last minute",
            "problem" if errors else "",
        ),
        *map(_ratio, status.traffic.ratios),
    ]
    if waiting is not None:
        figures.append(_figure(waiting.name, count(waiting.waiting), _of(waiting.limit)))
    figures.append(
        _figure(
            "connections",
            count(sum(one.open for one in public)),
            _of(sum(one.limit for one in public)),
        )
    )
    return element("dl", *figures, class_="figures")


def _figure(name: str, number: str, note: str, class_: str = "") -> Markup:
    strong = element("strong", number, class_=class_) if class_ else element("strong", number)
    return element("div", element("dt", name), element("dd", strong, " ", element("small", note)))


def _ratio(ratio: Ratio) -> Markup:
    if ratio.last_minute is None:
        note = f"none lately; {percent(ratio.since_start)} since the start"
    else:
        note = f"last minute; {percent(ratio.since_start)} since the start"
    return _figure(_KINDS.get(ratio.kind, ratio.kind), percent(ratio.last_minute), note)


# Origins


def _origin(origin: Origin) -> Markup:
    facts = [part for part in (origin.kind, origin.balance) if part]
    facts.append(f"probed by {origin.probe}" if origin.probe else "not probed")
    budget = f"{math.floor(origin.retries_saved)} of {count(origin.retries_limit)}"
    counts = [
        f"retries {count(origin.retries)}, {budget} saved for more",
        f"turned away {count(origin.turned_away)}",
        f"connections {_listed(origin.connections)}",
    ]
    if any(one.number for one in origin.resumptions):
        counts.append(f"bodies that broke off: {_listed(origin.resumptions)}")
    if origin.lookups_failed:
        counts.append(f"names not resolved {count(origin.lookups_failed)}")
    titles = ("Host", "State", "Load", "Latency", "Answered", "Failures", "Held down", "Probes")
    numeric = ("Latency", "Answered", "Held down")
    head = element(
        "tr",
        *(
            element("th", title, scope="col", class_="n" if title in numeric else "t")
            for title in titles
        ),
    )
    table = element(
        "table",
        element("thead", head),
        element("tbody", *map(_host, origin.hosts)),
        class_="hosts",
    )
    return element(
        "section",
        element("h3", origin.name, " ", element("small", " · ".join(facts))),
        table,
        element("p", " · ".join(counts), class_="soft"),
        class_="card",
    )


def _host(host: Host) -> Markup:
    role = []
    if host.is_backup:
        role.append("backup")
    if host.weight != 1:
        role.append(f"weight {host.weight:.0f}")
    failures = _listed(host.failures, "none")
    abandoned = f"{count(host.abandoned)} abandoned by us" if host.abandoned else ""
    checks = [
        f"{count(number)} {result}"
        for number, result in ((host.checks_passed, "passed"), (host.checks_failed, "failed"))
        if number
    ]
    limit = element("small", f"of {count(host.limit)}")
    # A failure weighs as a second when a host is chosen; that is no time anybody measured.
    latency_s = host.latency_s if host.answered else None
    lowered = f"limit lowered {_times(host.limit_decreases)}" if host.limit_decreases else ""
    return element(
        "tr",
        element("th", host.name, *_maybe_small(", ".join(role)), scope="row"),
        element("td", *_state(host), class_="state"),
        _cell(
            "Load", count(host.load), " ", limit, _meter(host.load, host.limit),
            *_maybe_small(lowered),
        ),
        _cell("Latency", seconds(latency_s), class_="n"),
        _cell("Answered", count(host.answered), class_="n"),
        _cell("Failures", failures, *_maybe_small(abandoned)),
        _cell("Held down", _times(host.holds), class_="n"),
        _cell("Probes", ", ".join(checks) or _NOTHING),
    )  # fmt: skip


def _state(host: Host) -> Iterator[Markup]:
    is_split = len(host.states) > 1
    for one in host.states:
        level = "well" if one.name == "running" else "problem" if host.is_down else "warning"
        words = f"{_SIGNS.get(one.name, '?')} {one.name}"
        if is_split:
            words += f" in {_number_of(one.number, 'worker')}"
        if one.name == "held" and host.held_s:
            words += f", {duration(max(1.0, host.held_s))} more"
        yield element("div", words, class_=level)
    for seen in host.differing:
        if seen.state != "running":
            words = f"{seen.state}: worker {seen.slot}, pid {seen.pid}"
            yield element("div", element("small", words))


def _cell(label: str, *children: str, class_: str = "t") -> Markup:
    return element("td", *children, class_=class_, data_label=label)


# Everything else


def _queues(queues: Sequence[Queue]) -> Markup:
    rows = [
        _row(
            queue.name,
            join(count(queue.waiting), " ", element("small", _of(queue.limit))),
            (_NOTHING if queue.turned_away is None else count(queue.turned_away)),
        )
        for queue in queues
    ]
    return _card("Queues", _table(("", "now", "turned away"), rows))


def _cache(cache: Cache) -> Markup:
    rows = [_folder(folder) for folder in cache.folders]
    tier = [
        _row(
            f"memory: {one.name}",
            join(size(one.used), " ", element("small", f"of {size(one.limit)}")),
        )
        for one in cache.memory
    ]
    counts = [
        f"on disk: {', '.join(f'{one.name}s {size(one.number)}' for one in cache.held)}",
        f"evicted: {_listed(cache.evictions, 'none')}",
        f"errors: {_listed(cache.errors, 'none')}",
    ]
    return _card("Cache", *rows, _table((), tier), *map(_paragraph, counts))


def _folder(folder: Folder) -> Markup:
    state = [
        element("p", element("strong", fault.name, class_="problem"),
                f" ({_number_of(fault.number, 'worker')} without it)")
        for fault in folder.faults
    ]  # fmt: skip
    room = f"{size(folder.used_bytes)} of {size(folder.size_bytes)}"
    files = f"{count(folder.used_files)} of {count(folder.size_files)} files"
    return element(
        "div",
        element("p", element("strong", folder.path)),
        *state,
        element("p", f"{room} · {files}", class_="soft"),
        _plain_meter(folder.used_bytes, folder.size_bytes),
    )


def _index(index: Index, workers: int) -> Markup:
    if index.degraded_workers:
        state = element(
            "strong",
            f"does not answer {index.degraded_workers:.0f} of {_number_of(workers, 'worker')},"
            " which decide without it",
            class_="warning",
        )
    else:
        state = element("strong", "answers", class_="well")
    rows = [
        _row("outages", count(index.outages)),
        _list_row("questions without an answer", index.failures),
        _row(
            "news that wait to be told",
            join(count(index.hints_waiting), " ", element("small", _of(index.hints_limit))),
        ),
        _list_row("news that waited", index.hints),
    ]
    return _card("Index", element("p", index.home, ": ", state), _table((), rows))


def _orders(orders: Orders, now: float) -> Markup:
    if orders.newest_at is None:
        newest = "none so far"
    else:
        newest = f"{orders.head:.0f}, {duration(max(0.0, now - orders.newest_at))} ago"
    rows = [
        _list_row("ordered here", orders.purges),
        _row("newest order heard of", newest),
        _row(
            "orders by tag or prefix",
            join(count(orders.kept), " ", element("small", _of(orders.limit))),
        ),
        _row("purges not settled yet", count(orders.unsettled)),
        _row("pictures taken down", count(orders.taken_down)),
        _row("lines in journals", count(orders.journal_lines)),
        _row("lines that could not be written", count(orders.journal_failures)),
        _list_row("looks at the log of orders", orders.looks),
    ]
    return _card("Purges", _table((), rows))


def _maybe_downstream(downstream: Downstream | None) -> Iterator[Markup]:
    if downstream is None:
        return
    rows = [_row(one.name, count(one.told), join(_failed(one.failed))) for one in downstream.caches]
    counts = [
        f"still to be told: {count(downstream.pending)} {_of(downstream.limit)}",
        f"told again for want of an answer: {count(downstream.retried)}",
        f"not told, too many at once: {count(downstream.dropped)}",
    ]
    yield _card("Caches in front", _table(("", "told", "failed"), rows), *map(_paragraph, counts))


def _failed(number: float) -> Markup:
    return element("span", count(number), class_="warning" if number else "soft")


def _resizer(resizer: Resizer) -> Markup:
    rows = [
        _row("processes", f"{_listed(resizer.processes, 'none')} of {count(resizer.limit)}"),
        *(_row(f"jobs {one.name}", count(one.number)) for one in resizer.renders if one.number),
        _list_row("restarts", resizer.restarts),
        _row("suspect pictures", count(resizer.suspects)),
    ]
    return _card("Resizer", _paragraph(resizer.sandbox), _table((), rows))


def _connections(status: Status) -> Markup:
    rows = [
        _row(
            f"{one.address} ({one.role})",
            join(count(one.open), " ", element("small", _of(one.limit))),
            _meter(one.open, one.limit),
        )
        for one in status.listeners
    ]
    closed = _paragraph(f"closed early: {_listed(status.closed_early, 'none')}")
    return _card("Connections", _table((), rows), closed)


def _answers(traffic: Traffic) -> Markup:
    rows = [_row(one.name, count(one.number)) for one in traffic.by_status if one.number]
    return _card(
        "Answers since the start", _table((), rows), _paragraph(f"{count(traffic.requests)} in all")
    )


def _workers(status: Status) -> Markup:
    rows = [_row(f"worker {one.slot}", f"pid {one.pid}", one.state) for one in status.workers]
    reload_ = "in effect" if status.is_reload_good else "refused, the one before stays"
    facts = [
        f"replaced after a death: {count(status.worker_restarts)}",
        f"configuration read last: {reload_}, since {moment(status.reloaded_at)}",
    ]
    return _card("Workers", _table((), rows), *map(_paragraph, facts))


def _footer(pace_s: int | None) -> Markup:
    links = [
        element("a", path, href=path)
        for path in ("/metrics", "/status.json", "/healthz", "/readyz")
    ]
    paces = [
        element("a", f"every {one} s", href=f"/?refresh={one}") for one in PACES if one != pace_s
    ]
    if pace_s in PACES:
        paces.append(element("a", "not any more", href="/"))
    parts = [part for link in links for part in (link, " · ")]
    again = [part for link in paces for part in (" ", link)]
    return element("footer", element("p", *parts, "look again", *again))


# Pieces


def _card(title: str, *children: str) -> Markup:
    return element("section", element("h2", title), *children, class_="card")


def _paragraph(words: str) -> Markup:
    return element("p", words, class_="soft")


def _table(titles: Sequence[str], rows: Sequence[Markup]) -> Markup:
    if not rows:
        return Markup()
    body = element("tbody", *rows)
    if not titles:
        return element("table", body)
    cells = [
        element("th", title, scope="col", class_="n" if number else "t")
        for number, title in enumerate(titles)
    ]
    return element("table", element("thead", element("tr", *cells)), body)


def _row(name: str, *cells: str) -> Markup:
    return element(
        "tr",
        element("th", name, scope="row"),
        *(element("td", cell, class_="n") for cell in cells),
    )


def _list_row(name: str, amounts: Iterable[Amount]) -> Markup:
    return element(
        "tr",
        element("th", name, scope="row"),
        element("td", _listed(amounts, "none"), class_="list"),
    )


def _maybe_small(words: str) -> Iterator[str]:
    if words:
        yield " "
        yield element("small", words)


def _meter(value: float, limit: float) -> Markup:
    """Beside words that say the same."""
    if limit <= 0:
        return Markup()
    return element(
        "meter",
        title=percent(value / limit),
        min=0,
        low=_NEARLY * limit,
        high=_FULL * limit,
        optimum=0,
        max=limit,
        value=value,
    )


def _plain_meter(value: float, limit: float) -> Markup:
    """Of what is full most of the time, as it should be."""
    if limit <= 0:
        return Markup()
    return element("meter", title=percent(value / limit), min=0, max=limit, value=value)


def _listed(amounts: Iterable[Amount], nothing: str = _NOTHING) -> str:
    return ", ".join(f"{one.name} {count(one.number)}" for one in amounts if one.number) or nothing


def _of(limit: float | None) -> str:
    return "" if limit is None else f"of {count(limit)}"


def _number_of(number: float, noun: str) -> str:
    return f"{number:.0f} {noun}{'' if number == 1 else 's'}"


def _times(number: float) -> str:
    return "never" if not number else "once" if number == 1 else f"{count(number)} times"


# Numbers


def count(number: float) -> str:
    return f"{number:,.0f}".replace(",", " ")


def rate(number: float) -> str:
    return f"{number:.1f}" if number < 100 else count(number)


def percent(part: float | None) -> str:
    """Down to what is sure: 99.96 % is not 100 %."""
    if part is None:
        return _NOTHING
    return "100 %" if part == 1 else f"{math.floor(part * 1000 + 1e-6) / 10:.1f} %"


def size(number: float) -> str:
    for unit in _UNITS[:-1]:
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} {_UNITS[-1]}"


def seconds(number: float | None) -> str:
    if number is None:
        return _NOTHING
    if number < 0.0995:
        return f"{number * 1000:.1f} ms"
    return f"{number * 1000:.0f} ms" if number < 0.9995 else f"{number:.1f} s"


def duration(number: float) -> str:
    """The two largest units."""
    whole = int(number)
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    named = [(amount, unit) for amount, unit in parts]
    while len(named) > 1 and not named[0][0]:
        del named[0]
    return " ".join(f"{amount} {unit}" for amount, unit in named[:2] if amount) or "0 s"


def moment(at: float) -> str:
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return _NOTHING
