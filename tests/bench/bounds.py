"""What no policy can save, and what one would that knew more: parts of all cost.

A policy that learns has to be judged by what can be learned. Knowing all future requests is worth
much more than knowing how often each key is asked for, and nobody can have more than the latter.
"""

from collections.abc import Callable, Sequence

from tests.bench.traces import Request


def everything(trace: Sequence[Request]) -> float:
    """With room for all: each key costs its first request."""
    return future_known(trace, sum(request.size for request in trace))


def future_known(trace: Sequence[Request], size: int) -> float:
    """No policy saves more than this, whatever it knows (PFOO-L; Berger et al., 2018).

    To hit, a key must be kept from its last request to this one, which takes its bytes for so many
    requests. The dearest of these stays are taken while there is room on the average.
    """
    last: dict[int, int] = {}
    stays: list[tuple[float, float, int]] = []
    for at, request in enumerate(trace):
        if request.key in last:
            room = request.size * (at - last[request.key])
            stays.append((request.cost / room, request.cost, room))
        last[request.key] = at
    left = size * len(trace)
    saved = 0.0
    for density, cost, room in sorted(stays, reverse=True):
        if room > left:
            saved += density * left
            break
        saved += cost
        left -= room
    return saved / _all(trace)


def rates_known(trace: Sequence[Request], size: int, rate: Callable[[int], float]) -> float:
    """Keeping, from their first request on, the keys that are worth most by their true rates."""
    known = {request.key: request for request in trace}
    by_worth = sorted(
        known.values(), key=lambda one: rate(one.key) * one.cost / one.size, reverse=True
    )
    kept: set[int] = set()
    for request in by_worth:
        if request.size <= size:
            size -= request.size
            kept.add(request.key)
    seen: set[int] = set()
    saved = 0.0
    for request in trace:
        if request.key in seen:
            saved += request.cost
        elif request.key in kept:
            seen.add(request.key)
    return saved / _all(trace)


def _all(trace: Sequence[Request]) -> float:
    return sum(request.cost for request in trace) or 1.0
