"""What is known of an original, and what comes of asking for one.

A Source is what this worker knows; an answer that is not kept is Passed, or Passing while it is on
its way to its only reader. What is on its way into the store is an Arriving (arrival.py).
"""

import enum
from dataclasses import dataclass
from typing import Final

from cache.index.interface import UNKNOWN_TOKEN, SourceRecord
from cache.key import SourceId
from cache.store import Opened
from cache.stored import StoredFile
from edge.arrival import Arriving
from edge.errors import Gone, NotFound, OriginSaidNo
from edge.http.body import Descriptor, FileSlice, Stretch
from edge.http.freshness import Storability
from edge.origin.files import FileStatus
from edge.origin.messages import Headers
from edge.remembered import remembered
from edge.site import Site

# A docroot file is looked at again after this time, as lighttpd's stat cache does.
STAT_TTL_S: Final = 1
# How long a stale original that an origin failed to refresh is taken for good before it is asked
# again; short, so that recovery shows, and long enough that a dead origin is not asked per request.
RETRY_ORIGIN_S: Final = 10
# Between the path and the query of a source's id; split_target() lets no control character through.
QUERY_MARK: Final = "\x1f"
# Ids of what is asked for at the same time, and of what is asked for often.
_REMEMBERED: Final = 1024
_REMEMBERED_BYTES: Final = 1024 * 1024
# A page served beside pictures must not run with the site's rights (facts of SVG as a document).
_SVG_FIELDS: Final = (("Content-Security-Policy", "default-src 'none'; sandbox"),)


# In place of the tokens of a docroot file of which nothing was asked but itself.
NOT_ASKED: Final = Opened(UNKNOWN_TOKEN, None, None)


class Home(enum.Enum):
    DOCROOT = "docroot"
    ORIGIN = "origin"


class Way(enum.Enum):
    """How open() came by its answer."""

    KNOWN = "known"  # nobody but docroot and index was asked
    CONFIRMED = "confirmed"  # the origin said 304
    FETCHED = "fetched"  # the origin sent it


class Stale(enum.StrEnum):
    """Why a source is used after its lifetime; the word of Cache-Status (RFC 5861)."""

    IF_ERROR = "stale-if-error"  # the origin failed to answer
    WHILE_REVALIDATE = "stale-while-revalidate"  # it is being asked


class Source:
    """What this worker knows of one original; renewed in place, so that every variant sees it."""

    __slots__ = (
        "file", "fresh_until", "home", "id", "opened", "place", "record", "retry_at", "stale",
    )  # fmt: skip

    def __init__(self, source_id: SourceId, home: Home, opened: Opened, record: SourceRecord):
        self.id = source_id
        self.home = home
        self.opened = opened  # the tokens for look-ups and for fills
        self.record = record
        # Of a docroot file, when it was last looked at; record is of this very version.
        self.file: FileStatus | None = None
        self.fresh_until = 0  # seconds since 1970; until then nobody is asked
        self.stale: Stale | None = None  # why record is used past its lifetime
        self.retry_at = 0  # the origin that failed is left alone until then
        self.place = -1  # in the table of those that are known

    @property
    def is_stale(self) -> bool:
        return self.stale is not None


@dataclass(frozen=True, slots=True)
class Passed:
    """An origin's answer that is not kept: its status, the fields to pass on, its body.

    record is of this very body, None where the status is not 200.
    """

    status: int
    fields: Headers
    body: FileSlice | bytes  # of a few KB: not worth a file
    body_digest: bytes  # xxh3-128
    storability: Storability
    record: SourceRecord | None = None

    @property
    def is_shareable(self) -> bool:
        """May requests that came meanwhile have it too? Not what was made for one client."""
        return self.storability in (Storability.NO_LIFETIME, Storability.STORABLE)


@dataclass(frozen=True, slots=True)
class Passing:
    """As Passed, of a large body that is still on its way to its only reader. length is what was
    announced, or UNKNOWN_LENGTH; record is without what the last byte tells."""

    status: int
    fields: Headers
    body: Stretch
    length: int
    storability: Storability
    record: SourceRecord | None = None


# What is there, and what is on its way: then settled() tells what becomes of it.
Settled = Source | Passed
UnderWay = Arriving[Settled] | Passing


@dataclass(frozen=True, slots=True)
class Found:
    answer: Settled | UnderWay
    way: Way
    collapsed: bool = False  # waited for another request's answer


@dataclass(frozen=True, slots=True)
class Original:
    """record is that of these very bytes; fields are replayed with them."""

    record: SourceRecord
    fields: Headers
    body: FileSlice


@dataclass(slots=True)
class Stats:
    """known and opened are looks at a source; stale those answered for a failing origin, meanwhile
    those answered while it was asked, sick those for a failing docroot."""

    known: int = 0
    opened: int = 0
    stale: int = 0
    meanwhile: int = 0
    sick: int = 0


def source_id_of(site: Site, path: str, query: str) -> SourceId:
    """A decoded path may hold a "?" (of %3F), so a query is set apart by what no path can hold."""
    return _source_id(site.name, path, query)


# One request asks for it several times, and the digest that each of them would make costs more than
# all else of it.
@remembered(_REMEMBERED, _REMEMBERED_BYTES)
def _source_id(site: str, path: str, query: str) -> SourceId:
    return SourceId(site, f"{path}{QUERY_MARK}{query}" if query else path)


def path_of(source_id: SourceId) -> str:
    """Without the query."""
    return source_id.path.partition(QUERY_MARK)[0]


def source_of(arriving: Arriving[Settled]) -> Source:
    """As it would be known, if it were here already."""
    return Source(arriving.id, Home.ORIGIN, arriving.opened, arriving.record)


def is_for_one(answer: Settled | UnderWay) -> bool:
    """Made for the client who asked, or read by one only."""
    if isinstance(answer, Passing):
        return True
    return isinstance(answer, Passed) and not answer.is_shareable


def guarded(media_type: str, fields: Headers) -> Headers:
    """fields, and for a page that calls itself a picture the rule that makes it one."""
    if not media_type.lower().startswith("image/svg+xml"):
        return fields
    if any(name.lower() == "content-security-policy" for name, _ in fields):
        return fields
    return fields + _SVG_FIELDS


def slice_of(stored: StoredFile) -> FileSlice:
    """The body of a stored file; the descriptor is the slice's from now on."""
    fd, stored.fd = stored.fd, -1
    start = stored.body_offset
    return FileSlice(Descriptor(fd), start, start + stored.entry.length)


def raise_for_status(passed: Passed) -> None:
    """The refusal that an origin's answer means for a derivative, if it means one."""
    if passed.status == 410:
        raise Gone("the origin answered 410")
    if passed.status == 404:
        raise NotFound("the origin answered 404")
    if passed.status != 200:
        raise OriginSaidNo(f"the origin answered {passed.status}")
