"""Cache directives of a request, RFC 9111 section 5.2.1.

All but two are advice and change nothing here. What a cache in front adds by itself (Squid sends
max-age=259200 with every request) must not pass for somebody's reload, and a reload of everybody's
browsers is no reason to ask an origin for what is fresh. no-store is obeyed (section 5.2.1.5), and
only-if-cached: whoever would rather have no answer than wait gets 504 (section 5.2.1.7).
"""

import re
from dataclasses import dataclass
from typing import Final

# A quoted argument hides what it holds.
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\Z)')


@dataclass(frozen=True, slots=True)
class RequestControl:
    no_store: bool = False
    only_if_cached: bool = False


NOTHING_ASKED: Final = RequestControl()


def parse_request_control(text: str | None) -> RequestControl:
    if not text:
        return NOTHING_ASKED
    names = {
        member.partition("=")[0].strip(" \t").lower() for member in _QUOTED.sub("", text).split(",")
    }
    return RequestControl("no-store" in names, "only-if-cached" in names)
