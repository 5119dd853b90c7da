"""What a 200 would carry: validators, media type and body, before the request's fields choose.

A representation whose body is in memory is what the memory tier keeps: it is ready to send, and its
head is put together at most once a second (Date, Age and ttl in it change no oftener).
"""

from dataclasses import dataclass

from cache.index.interface import UNKNOWN_TOKEN, Token
from edge.http.body import FileSlice, Stretch


@dataclass(frozen=True, slots=True)
class Facts:
    """What a response says beside its representation, true at the moment it is sent.

    age_s None: this node is where the content comes from, so it has no Age. timing is the value of
    Server-Timing, "" for none. vary is whole field lines: what the representation was chosen by.
    """

    cache_control: str
    cache_status: str
    age_s: int | None = None
    timing: str = ""
    vary: str = ""


class Representation:
    """Not frozen: its head is cached in it, and its body may move from a file into memory.

    validator is that of the source it was made from, token the one that was current when it was
    found or made; the representation holds as long as the source's are the same. One that is still
    arriving may have no tag yet, and no length.
    """

    __slots__ = (
        "body", "cost_ms", "etag", "facts", "fields", "head", "head_rest", "head_second",
        "last_modified", "length", "media_type", "token", "validator",
    )  # fmt: skip

    def __init__(
        self,
        *,
        validator: str,
        etag: str,
        last_modified: int,
        media_type: str,
        body: bytes | FileSlice | Stretch,
        fields: tuple[tuple[str, str], ...] = (),
        length: int | None = None,
        token: Token = UNKNOWN_TOKEN,
        cost_ms: int = 0,
    ) -> None:
        self.validator = validator
        self.token = token
        self.etag = etag
        self.last_modified = last_modified
        self.media_type = media_type
        self.body = body
        self.length = len(body) if length is None else length
        self.cost_ms = cost_ms  # what rendering it took, 0 for originals
        self.fields = fields  # further fields of the 200, such as Content-Disposition
        self.head = b""  # of a hit in memory, made in head_second
        self.head_rest = b""  # of the head, what follows the Date under these facts
        self.facts: Facts | None = None
        self.head_second = -1
