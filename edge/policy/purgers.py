"""Who may PURGE on a public listener: the networks of a site's purge_from. Pure.

The address is the client's as edge/policy/forwarded.py believes it, so what a trusted proxy writes
into X-Forwarded-For decides. A proxy that hides its client leaves its own address standing there:
everyone who comes through it would look like it. So the address of a trusted proxy counts only when
it asks for itself, with no field in the request that a proxy adds.
"""

from collections.abc import Collection, Sequence
from typing import Final

from edge.http.ip import maybe_ip
from edge.policy.forwarded import Network, TrustedProxies

# What a request has that somebody has passed on.
_PASSED_ON: Final = frozenset((b"via", b"x-forwarded-for", b"forwarded", b"cdn-loop"))


def may_purge(
    networks: Sequence[Network],
    trusted: TrustedProxies,
    address: str,
    fields: Collection[bytes],
) -> bool:
    """fields: names of the request, in lower case."""
    client = maybe_ip(address)
    if client is None:  # a Unix socket, or a proxy that cannot name its client
        return False
    if trusted.trusts(address) and not _PASSED_ON.isdisjoint(fields):
        return False
    return any(client in network for network in networks)
