"""Origins and their hosts."""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Sequence

from edge.metrics import Counter, Gauge, Row, Samples
from edge.origin.host import Host, HostState
from edge.origin.pool import OriginPool
from edge.site import Sites


def origin_rows(sites: Sites) -> Sequence[Row]:
    """Origins that a site asks, and their hosts."""

    def origins() -> Iterable[OriginPool]:
        # Several sites may ask one.
        return {id(one.origin): one.origin for one in sites.all() if one.origin}.values()

    def fetches() -> Samples:
        for origin in origins():
            totals: Tally[str] = Tally()
            for host in origin.hosts:
                totals.update({result.value: n for result, n in host.stats.results.items()})
            for name, count in totals.items():
                yield (origin.name, name), count

    def hosts() -> Iterator[tuple[tuple[str, str], Host]]:
        for origin in origins():
            for host in origin.hosts:
                yield (origin.name, host.name), host

    def host_states() -> Samples:
        for origin in origins():
            for state in HostState:
                count = sum(host.state is state for host in origin.hosts)
                yield (origin.name, state.value), count

    def checks() -> Samples:
        for names, host in hosts():
            yield (*names, "passed"), host.stats.checks_passed
            yield (*names, "failed"), host.stats.checks_failed

    def connections() -> Samples:
        for origin in origins():
            stats = origin.connections
            yield (origin.name, "opened"), stats.opened
            yield (origin.name, "reused"), stats.reused
            yield (origin.name, "lost"), stats.lost

    def resumptions() -> Samples:
        for origin in origins():
            yield (origin.name, "resumed"), origin.stats.resumed
            yield (origin.name, "failed"), origin.stats.unresumed

    return (
        Counter(
            "halftone_origin_fetches",
            "Exchanges with origins, by name and result.",
            ("origin", "result"),
            fetches,
        ),
        Counter(
            "halftone_origin_retries",
            "Requests put to a second host, because the first gave no answer.",
            ("origin",),
            lambda: (((origin.name,), origin.stats.retries) for origin in origins()),
        ),
        Counter(
            "halftone_origin_resumptions",
            "Bodies that broke off, and whose rest was asked for by Range and ETag; failed: it was"
            " not to be had, or is of another version.",
            ("origin", "result"),
            resumptions,
        ),
        Counter(
            "halftone_origin_turned_away",
            "Requests put to no host: all were held down, or had what they can take.",
            ("origin",),
            lambda: (((origin.name,), origin.stats.turned_away) for origin in origins()),
        ),
        Counter(
            "halftone_origin_connections",
            "Requests by connection; lost: a kept one was dead, and a new one was opened.",
            ("origin", "kind"),
            connections,
        ),
        Gauge(
            "halftone_origin_hosts",
            "Hosts by state, as every worker sees them; held: gets no requests for a while,"
            " probing: one request finds out.",
            ("origin", "state"),
            host_states,
        ),
        Gauge(
            "halftone_origin_host_requests",
            "Requests that a host has.",
            ("origin", "host"),
            lambda: ((names, host.load) for names, host in hosts()),
        ),
        Gauge(
            "halftone_origin_host_limit",
            "Requests that a host may have at once, as learnt from its answers.",
            ("origin", "host"),
            lambda: ((names, host.limit.value) for names, host in hosts()),
        ),
        Counter(
            "halftone_origin_host_limit_decreases",
            "Times that the limit of a host was lowered, because it refused or became slow.",
            ("origin", "host"),
            lambda: ((names, host.limit.decreases) for names, host in hosts()),
        ),
        Counter(
            "halftone_origin_host_holds",
            "Times that a host was held down.",
            ("origin", "host"),
            lambda: ((names, host.stats.holds) for names, host in hosts()),
        ),
        Counter(
            "halftone_origin_host_errors",
            "Answers of a host with a status of 500 or above; they count as answered elsewhere.",
            ("origin", "host"),
            lambda: ((names, host.stats.errors) for names, host in hosts()),
        ),
        Counter(
            "halftone_origin_host_checks",
            "Active probes of a host, by result.",
            ("origin", "host", "result"),
            checks,
        ),
        Counter(
            "halftone_origin_lookups",
            "Names of hosts looked up; failed: the last good addresses stay in use.",
            ("origin", "result"),
            lambda: (
                ((origin.name, name), getattr(origin.connections.lookups, name))
                for origin in origins()
                for name in ("resolved", "failed")
            ),
        ),
    )
