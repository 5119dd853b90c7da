"""Who may PURGE on a public listener: by address, and not through a proxy that hides its client."""

import pytest

from edge.policy.forwarded import TrustedProxies
from edge.policy.purgers import may_purge
from edge.settings.addresses import parse_network

TRUSTED = TrustedProxies([parse_network("10.0.0.0/24")])
NETWORKS = tuple(map(parse_network, ("10.0.0.0/24", "192.0.2.7", "2001:db8::/32")))


@pytest.mark.parametrize(
    ("address", "fields", "may"),
    [
        ("192.0.2.7", [], True),
        ("192.0.2.7", [b"x-forwarded-for", b"via"], True),  # as a trusted proxy named it
        ("192.0.2.8", [], False),
        ("2001:db8::1", [], True),
        ("::ffff:192.0.2.7", [], True),  # a dual-stack socket's name for it
        ("2001:db9::1", [], False),
        ("10.0.0.9", [b"host", b"user-agent"], True),  # a trusted proxy, for itself
        # hostile: clients of a proxy that does not name them look like the proxy
        ("10.0.0.9", [b"via"], False),
        ("10.0.0.9", [b"x-forwarded-for"], False),
        ("10.0.0.9", [b"forwarded"], False),
        ("unix", [], False),
        ("unknown", [], False),
        ("", [], False),
    ],
)
def test_may_purge(address, fields, may):
    assert may_purge(NETWORKS, TRUSTED, address, fields) is may


def test_nobody_by_default():
    assert not may_purge((), TRUSTED, "127.0.0.1", ())
