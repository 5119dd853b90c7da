"""The Cache-Status field, RFC 9211: what this cache did, in one list member.

edge1; hit; ttl=3600; detail=memory
edge1; fwd=uri-miss; fwd-status=200; stored; collapsed; detail=render
"""

import enum
import functools
from typing import Final


class Forward(enum.StrEnum):
    """Why a request went on, RFC 9211 section 2.2."""

    BYPASS = "bypass"
    METHOD = "method"
    URI_MISS = "uri-miss"
    VARY_MISS = "vary-miss"
    MISS = "miss"
    STALE = "stale"
    REQUEST = "request"


_TOKEN: Final = frozenset(
    "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz:/"
)


def build_hit(name: str, ttl: int, detail: str) -> str:
    """ttl in seconds, negative when stale. name and detail are tokens of our own."""
    assert _TOKEN.issuperset(name + detail)
    return f"{name}; hit; ttl={ttl}; detail={detail}"


# A handful of reasons, statuses and details are all there are.
@functools.lru_cache(maxsize=1024)
def build_forward(
    name: str,
    reason: Forward,
    *,
    status: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    detail: str = "",
) -> str:
    """status is the origin's. The two flags are written only when true (section 2)."""
    assert _TOKEN.issuperset(name + detail)
    text = f"{name}; fwd={reason}"
    if status is not None:
        text += f"; fwd-status={status}"
    if stored:
        text += "; stored"
    if collapsed:
        text += "; collapsed"
    return f"{text}; detail={detail}" if detail else text
