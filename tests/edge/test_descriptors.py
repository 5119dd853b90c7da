"""Connections under the limit on open files."""

import resource

import pytest

from edge.descriptors import RESERVED, allow_connections, fit


@pytest.mark.parametrize(
    ("wanted", "limit", "allowed"),
    [
        (10_000, 65_536, 10_000),
        (10_000, resource.RLIM_INFINITY, 10_000),
        (10_000, 1024, 1024 - RESERVED),
        (100, 100 + RESERVED, 100),
        (101, 100 + RESERVED, 100),
        (10_000, RESERVED + 1, RESERVED // 4),
        (10_000, 3, 1),
        (1, 3, 1),
    ],
)
def test_fit(wanted, limit, allowed):
    assert fit(wanted, limit) == allowed


def test_the_soft_limit_is_raised_as_far_as_needed():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = (soft - RESERVED) // 4
    needed = 2 * wanted + RESERVED
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed - 100, hard))
    try:
        assert allow_connections(wanted) == wanted
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (needed, hard)
        assert allow_connections(1) == 1
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (needed, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
