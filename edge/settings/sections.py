# ruff: noqa: RUF009 - setting() returns a dataclass field, made once, as dataclasses.field() does
"""The sections of the configuration: every setting, declared once. Pure.

Types, limits, defaults and the sentence of the manual stand here and nowhere else; units are in
kinds.py. What needs two settings or the file system is checked in preflight.py. LATER names what
the manual promises and this release does not do: silently accepting it would be a lie.
"""

import enum
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from cache.durability import Durability
from edge.origin.commands import SendfileRoot
from edge.policy.negotiation import NewerFormat
from edge.settings.addresses import (
    Address,
    EmbeddedIndex,
    Endpoint,
    FrontCache,
    IndexAddress,
    Network,
    format_network,
    parse_address,
    parse_endpoint,
    parse_front_cache,
    parse_host,
    parse_host_header,
    parse_index,
    parse_network,
    parse_peer,
    parse_site_host,
)
from edge.settings.declare import optional, required, section, setting
from edge.settings.kinds import (
    MAX_ITEMS,
    Auto,
    Choice,
    Duration,
    Named,
    Number,
    Several,
    Size,
    Switch,
    Written,
)
from edge.settings.secret import Secret
from edge.settings.units import BadValue
from resizer.transform import MAX_SIDE, QUALITIES, BadTransform
from resizer.watermark import Watermark

GIB: Final = 2**30
DAY: Final = 86_400.0
_NAME_CHARACTERS: Final = frozenset(string.ascii_letters + string.digits + "-._")
# Short enough for a test, too short for a network: below it is a slip of the unit.
SHORTEST_S: Final = 0.01
# Each is kept in memory, 2 MiB at the most, and holds a file open.
MAX_WATERMARKS: Final = 32


def _parse_path(text: str) -> str:
    # What "/srv" means must not depend on the folder that the command was started in.
    if not text.startswith("/"):
        raise BadValue(f"must be an absolute path, not {text!r}")
    if not text.isprintable():
        raise BadValue("holds a control character")
    return text


def _parse_log_target(text: str) -> str:
    if text in ("-", "off"):
        return text
    if not text.startswith("/"):
        raise BadValue(f'must be an absolute path, "-" or "off", not {text!r}')
    return _parse_path(text)


def _parse_word(text: str) -> str:
    """A token (RFC 9110, 5.6.2) that starts with a letter: it stands bare in Via and labels."""
    if not (
        text.isascii() and text[:1].isalpha() and text.replace("-", "").replace("_", "").isalnum()
    ):
        raise BadValue(f"must be letters, digits, - and _, and start with a letter, not {text!r}")
    if len(text) > 63:
        raise BadValue(f"has {len(text)} characters, 63 are the most")
    return text


def _parse_name(text: str) -> str:
    """As a word, with dots: node names are often host names."""
    if not (text.isascii() and text[:1].isalpha() and set(text) <= _NAME_CHARACTERS):
        raise BadValue(f"must be letters, digits, - . and _, and start with a letter, not {text!r}")
    return text


def _parse_account(text: str) -> str:
    """What useradd(8) accepts: passwd(5) is a file of lines and colons."""
    plain = text.removesuffix("$").replace("-", "").replace("_", "").replace(".", "")
    if not (text.isascii() and plain.isalnum() and text[0] not in "-." and len(text) <= 32):
        raise BadValue(f"must be the name of an account, not {text!r}")
    return text


def _parse_prefix(text: str) -> str:
    if text == "":
        return text
    if not text.startswith("/") or text.endswith("/"):
        raise BadValue(
            f'must be empty or start with / and not end with it, like "/img", not {text!r}'
        )
    for segment in text[1:].split("/"):
        plain = segment.replace("-", "").replace("_", "").replace(".", "").replace("~", "")
        if segment in ("", ".", "..") or not (plain.isascii() and (plain.isalnum() or not plain)):
            raise BadValue(f"segment {segment!r} is not made of letters, digits, - . _ ~")
    return text


def _parse_sendfile_root(text: str) -> SendfileRoot:
    prefix, sign, folder = text.partition("=")
    if not sign:
        prefix, folder = "", text
    folder = _parse_path(folder).rstrip("/")
    if any(segment in ("", ".", "..") for segment in folder[1:].split("/")):
        raise BadValue(f"must be a folder, without . and .., and not the whole tree: {text!r}")
    return SendfileRoot(folder, _parse_prefix(prefix))


def _parse_bucket(text: str) -> str:
    """Amazon's rules, with the capitals and underscores that older buckets have."""
    plain = text.replace("-", "").replace(".", "").replace("_", "")
    if not (text.isascii() and plain.isalnum() and 3 <= len(text) <= 255):
        raise BadValue(f"must be the name of a bucket, not {text!r:.60}")
    return text


def _parse_key_prefix(text: str) -> str:
    if not text.isprintable() or len(text.encode()) > 512:
        raise BadValue("must be the start of keys, at most 512 bytes, without control characters")
    if text and any(segment in ("", ".", "..") for segment in text.split("/")):
        raise BadValue(f"must be like pictures/2026, without a slash at its ends, not {text!r:.60}")
    return text


def _parse_bare(text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise BadValue("must be printable ASCII without spaces")
    return text


def _parse_secret(text: str) -> Secret:
    return Secret(_parse_bare(text))


def _parse_extension(text: str) -> str:
    if not (text.isascii() and text.isalnum() and len(text) <= 8):
        raise BadValue(f'must be a file name ending without its dot, like "jpg", not {text!r}')
    return text


def _parse_peer_name(text: str) -> str:
    return str(parse_peer(text))


# In place of a path: the question that FastCGI has for it.
GET_VALUES: Final = "get-values"


def _parse_probe(text: str) -> str:
    """What may stand in a request's target as it is, without a query; or GET_VALUES."""
    if text == GET_VALUES:
        return text
    if not text.startswith("/") or not all("!" <= c <= "~" and c not in "?#%" for c in text):
        raise BadValue(f"must be a path like /health, of plain characters, not {text!r}")
    return text


def _parse_mark_name(text: str) -> str:
    try:
        return Watermark(text).name
    except BadTransform:
        raise BadValue(f"must be named by 1 to 32 of a-z, 0-9 and -, not {text!r:.60}") from None


def _parse_tag(text: str) -> str:
    """A tag, of those that need no quotes as a key."""
    if not (text.isascii() and text.replace("-", "").replace("_", "").isalnum()):
        raise BadValue(f"must be made of letters, digits, - and _, not {text!r:.60}")
    if len(text) > 256:
        raise BadValue(f"has {len(text)} characters, 256 are the most")
    return text


def _show_index(index: IndexAddress) -> str:
    return str(index) if isinstance(index, EmbeddedIndex) else index.url


PATH: Final = Written(_parse_path, "an absolute path")
ADDRESS: Final[Written[Address]] = Written(parse_address, "HOST:PORT, [IPV6]:PORT or unix:/path")
PEER: Final[Written[Address]] = Written(parse_peer, "HOST:PORT, [IPV6]:PORT or unix:/path")
NETWORK: Final[Written[Network]] = Written(
    parse_network, "a network like 10.0.0.0/8, or an address", format_network
)
INDEX: Final[Written[IndexAddress]] = Written(
    parse_index,
    '"embedded", or redis://HOST:6379/0, rediss://HOST:6379/0, unix:///path,'
    " redis+sentinel://HOST:26379,HOST:26379/SERVICE/0, redis+cluster://HOST:6379,HOST:6379",
    _show_index,
    str,
)
FRONT_CACHE: Final[Written[FrontCache]] = Written(
    parse_front_cache, "http://HOST:PORT or htcp://HOST:PORT"
)
NAME: Final = Written(_parse_name, "letters, digits, - . and _")
WORD: Final = Written(_parse_word, "letters, digits, - and _")
ACCOUNT: Final = Written(_parse_account, "the name of an account")
HOST: Final = Written(parse_site_host, "a host name")


class Sandbox(enum.StrEnum):
    REQUIRE = "require"
    BEST_EFFORT = "best-effort"
    OFF = "off"


class LogFormat(enum.StrEnum):
    COMBINED = "combined"
    JSON = "json"


class OriginKind(enum.StrEnum):
    FASTCGI = "fastcgi"
    HTTP = "http"
    CGI = "cgi"
    S3 = "s3"


class Balance(enum.StrEnum):
    LEAST_CONNECTION = "least-connection"
    ROUND_ROBIN = "round-robin"
    HASH = "hash"
    STICKY = "sticky"
    P2C = "p2c"


class OffStep(enum.StrEnum):
    ROUND = "round"
    REDIRECT = "redirect"
    REJECT = "reject"
    ALLOW = "allow"


class Ladder(enum.StrEnum):
    ON_FIRST_MISS = "on-first-miss"
    OFF = "off"


class Grammar(enum.StrEnum):
    """The ways of writing a derivative into a URL, each with its file in edge/urls."""

    WIKIPEDIA = "wikipedia"
    YOUTUBE = "youtube"
    QUERY = "query"


_REMEMBERED: Final = Duration(0.0, DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """How long a failure is remembered, and the same question gets the same answer at once; each a
    fifth more or less. "0s" remembers none of the kind. Whatever is purged or changed is tried
    again at once; overload is never remembered."""

    not_found: float = setting(
        _REMEMBERED,
        "10s",
        "The origin answered 404 or 410. A lifetime of its own (max-age, Expires) counts in place"
        " of this one, a day at the most; no-store is obeyed.",
    )
    corrupt: float = setting(
        _REMEMBERED, "60s", "No picture that can be read, or a damaged one: 415 and 422."
    )
    too_large: float = setting(_REMEMBERED, "60s", "Over max_source_bytes or max_pixels: 413.")
    timeout: float = setting(
        _REMEMBERED, "5s", "Killed at the resizer's deadline: 503, with Retry-After."
    )
    crashed: float = setting(
        _REMEMBERED,
        "10m",
        "Barred, having killed two resizer processes: 422. So other workers and nodes lose none.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What is kept, and where. All of it can be deleted while halftone is stopped."""

    path: str = setting(
        PATH,
        "/var/cache/halftone",
        "Folder of the cache, for halftone alone. Its parent must exist or be creatable.",
    )
    size: int = setting(
        Size(64 * 2**10, 2**50),
        "50GiB",
        "Bytes on disk, in allocated blocks, before the least valuable entries are evicted. Each of"
        " several workers looks after an equal part.",
    )
    inodes: int = setting(
        Number(16, 2**32),
        2_000_000,
        "Files on disk, likewise. A file system that runs out of inodes is as full as one without"
        " space: see df -i.",
    )
    folders: tuple[str, ...] = setting(
        Several(PATH),
        [],
        "Further folders of the cache, each on a disk of its own: size and inodes are divided"
        " equally between path and these. A disk that fails is left alone and tried again every"
        " minute. Name a folder inside the mount point, which must not be writable for halftone"
        " itself, or a disk that is not mounted goes unnoticed.",
        example='["/mnt/disk2/halftone", "/mnt/disk3/halftone"]',
    )
    min_free: int = setting(
        Size(0, 2**50),
        "64MiB",
        "Bytes of each file system that stay free, whoever takes them: below it entries are"
        " evicted, and while that does not help new ones are served without being kept. 0: none.",
    )
    durability: Durability = setting(
        Choice(Durability),
        "none",
        "What a power cut may take; nothing damaged is ever served. none: the entries of the last"
        " seconds. data: files are on disk before they have a name. full: their names, too, before"
        " the fill ends. Both make every fill wait for the disk.",
    )
    scrub: int = setting(
        Size(0, 2**34),
        "1MiB",
        "Bytes a second that are read from each folder to find what has gone bad on disk, in the"
        " background, around and around; 0 switches it off.",
    )
    originals: int = setting(
        Number(1, 90),
        25,
        "Percent of size and of inodes that originals are sure of; derivatives have the rest. What"
        " one of them leaves unused the other may use, and gives back first. Originals of a docroot"
        " are not in the cache.",
    )
    memory: int = setting(
        Size(0, 2**40),
        "256MiB",
        "Bytes of hot entries kept in memory, per worker; 0 switches the memory tier off.",
    )
    index: IndexAddress = setting(
        INDEX,
        "embedded",
        "Where generations and source records live: in this node's cache folder, or in a Redis"
        " that the nodes of a farm share. When Redis is down, hits are still served and a purge"
        " answers 503.",
        example='"redis://redis.internal:6379/0"',
    )
    strict_purge: bool = setting(
        Switch(),
        False,
        "With a shared index: ask it before every hit whether something was purged, so that a purge"
        " holds on every node when it is answered. Off: within a second. Costs a hit a round trip"
        " to Redis; while Redis is down, hits are served all the same.",
    )
    failures: Failures = section(Failures, "failures")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resizer:
    """The processes that decode and encode pictures. They hold no path, no socket, no secret."""

    processes: int | None = setting(
        Auto(Number(1, 256)),
        "auto",
        "Resizer processes; auto is one for each processor core. Several workers share them out, at"
        " least one each.",
    )
    deadline: float = setting(
        Duration(0.05, 600.0),
        "10s",
        "A render that takes longer is killed, and its request answered 503.",
    )
    queue: int = setting(
        Number(1, 100_000),
        64,
        "Renders that may wait for a process; beyond it the answer is 503 with Retry-After. Several"
        " workers share them out, at least one each.",
    )
    max_pixels: int = setting(
        Number(1, MAX_SIDE * MAX_SIDE),
        50_000_000,
        "Originals with more pixels, by their header, are refused before decoding. Each costs up to"
        " 4 bytes of memory.",
    )
    sandbox: Sandbox = setting(
        Choice(Sandbox),
        "best-effort",
        "Landlock and seccomp around each process: refuse to start without them, use what the"
        " kernel offers and say so in the log, or neither. See halftone sandbox-check.",
    )
    keep_barred: int = setting(
        Number(0, 10_000),
        16,
        "Pictures that killed two processes are refused for ten minutes, and this many of them are"
        " kept for a report, in the folder barred of the cache, readable by halftone's user alone."
        " 0 keeps none.",
    )
    keep_barred_bytes: int = setting(
        Size(0, 2**40), "128MiB", "Bytes of the pictures that are kept; the oldest give way."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Clients: the Squids in front, or browsers."""

    header: float = setting(
        Duration(SHORTEST_S, 600.0),
        "10s",
        "A request's head must be complete in this time; else the answer is 408, and the"
        " connection is closed.",
    )
    idle: float = setting(
        Duration(SHORTEST_S, 3600.0),
        "75s",
        "A kept connection without a request is closed after this time. Keep it above the"
        " server_idle_pconn_timeout of the Squid in front (60 s by default): else Squid sends"
        " requests into connections that are just closing.",
    )
    send: float = setting(
        Duration(SHORTEST_S, 3600.0),
        "30s",
        "A client that takes none of its answer for this time, or less than 1 KiB a second of it"
        " over this time, is disconnected.",
    )
    proxy_protocol: bool = setting(
        Switch(),
        False,
        "Demand the PROXY preamble (HAProxy's, version 1 or 2) on the public listeners. Only peers"
        " in trusted_proxies may connect then; the client is who the preamble names.",
    )
    max_connections: int = setting(
        Number(1, 1_000_000),
        10_000,
        "Open client connections. Above 80 % of it an idle one is kept for a second only; at it the"
        " longest idle ones are closed for new ones, and where none is idle a new one is answered"
        " 503. Each needs a file descriptor: where ulimit -n allows fewer, fewer are taken. Several"
        " workers share them out, at least one each.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The access log; everything else goes to standard error."""

    access: str = setting(
        Written(_parse_log_target, "an absolute path, - or off"),
        "-",
        'One line a request, to this file, to standard output ("-") or nowhere ("off").'
        " USR1 reopens it after rotation.",
    )
    format: LogFormat = setting(
        Choice(LogFormat),
        "combined",
        "Apache's combined format, for the tools that know it, or one JSON object a line.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """Storage that speaks S3, for kind = "s3". Needs the extra: pip install "halftone[s3]"."""

    bucket: str | None = optional(
        Written(_parse_bucket, "the name of a bucket"), "Its bucket.", example='"pictures"'
    )
    prefix: str = setting(
        Written(_parse_key_prefix, "empty, or the start of keys, like pictures/2026"),
        "",
        "Keys are this, a slash, and the path.",
        example='"originals"',
    )
    region: str = setting(Written(_parse_bare, "a region"), "us-east-1", "Its region.")
    endpoint: Endpoint | None = optional(
        Written(parse_endpoint, "a URL like https://s3.example.org"),
        "Where it listens; without it Amazon's own, of the region.",
        example='"https://minio.internal:9000"',
    )
    virtual_host: bool = setting(
        Switch(),
        False,
        "The bucket's name is a part of the host (BUCKET.s3.example.org) and not of the path: for"
        " storage that wants it so.",
    )
    access_key: str = setting(
        Written(_parse_bare, "a key's id"),
        "",
        "Id of the key that requests are signed with. Empty: the environment's AWS_ACCESS_KEY_ID"
        " and kin, or the machine's role.",
    )
    secret_key: Secret = setting(
        Written(_parse_secret, "a secret", reveal=Secret.reveal, masked=str),
        "",
        "The key itself. Better in the environment, as AWS_SECRET_ACCESS_KEY or"
        " HALFTONE__ORIGIN__0__S3__SECRET_KEY, than in a file that many can read.",
    )
    anonymous: bool = setting(Switch(), False, "Sign nothing: for a bucket that everyone may read.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """An application that answers for what no docroot has. May be there several times."""

    name: str = required(WORD, "What sites call it, and metrics label it.", example='"app"')
    kind: OriginKind = setting(
        Choice(OriginKind),
        "fastcgi",
        "What it is: an application that speaks FastCGI or HTTP/1.1, a program that is run for each"
        " request (CGI), or storage that speaks S3.",
    )
    hosts: tuple[Address, ...] = setting(
        Several(PEER),
        [],
        "Where it listens: one at the least for fastcgi and http, none for cgi and s3. A host that"
        " refuses connections is left alone for a while.",
        example='["php1:9000", "unix:/run/php/php-fpm.sock"]',
    )
    backup: tuple[Address, ...] = setting(
        Several(PEER),
        [],
        "Hosts that get what no other can take: those are held down, or have all they can have.",
        example='["php3:9000"]',
    )
    weights: tuple[tuple[str, int], ...] = setting(
        Named(_parse_peer_name, Number(1, 100), MAX_ITEMS),
        {},
        "Shares of hosts that are larger or smaller than others; 1 where none is given.",
        example='{ "php1:9000" = 2 }',
    )
    balance: Balance = setting(
        Choice(Balance),
        "least-connection",
        "Which of the hosts gets the next request: the one with the fewest, the next in turn, one"
        " by the path (hash) or by the client's address (sticky; by the path where an original"
        " is fetched for everybody), or of two drawn by lot the one that will answer sooner (p2c).",
    )
    max_per_host: int = setting(
        Number(1, 10_000),
        64,
        "Requests that one host has at once, per worker, at the most. What it takes without getting"
        " slow or refusing is learnt below that; beyond it the answer is stale, or 503 with"
        " Retry-After.",
    )
    keep_connections: int = setting(
        Number(0, 1000),
        0,
        "Idle connections kept per host and worker, for 4 s each. Each holds one php-fpm worker"
        " that nobody else can use meanwhile: all workers of all nodes together must stay well"
        " below pm.max_children, or php-fpm stops answering. Leave it 0 unless connecting is what"
        " costs. With http nothing is pinned: 8 is a good start, above all with tls. With s3 there"
        " are 16 at the least.",
    )
    script_filename: str | None = optional(
        PATH,
        "For fastcgi the program's path as the application's host sees it (SCRIPT_FILENAME), for"
        " cgi the program itself, on this machine.",
        example='"/srv/app/index.php"',
    )
    tls: bool = setting(
        Switch(), False, "Speak https to the hosts. For http; of s3 the endpoint says so."
    )
    tls_verify: bool = setting(
        Switch(),
        True,
        "Refuse hosts whose certificate is not valid for their name. Off: whoever is in between can"
        " read and change everything.",
    )
    tls_name: str | None = optional(
        Written(parse_host, "a host name"),
        "Name that their certificates are for, where it is not that in hosts (of s3, in its"
        " endpoint).",
        example='"app.internal"',
    )
    tls_ca: str | None = optional(
        PATH,
        "File with the certificates (PEM) of who signed theirs; without it the system's. Also for"
        " s3, whose endpoint may be signed by your own authority.",
        example='"/etc/halftone/ca.pem"',
    )
    host_header: str | None = optional(
        Written(parse_host_header, "a host name, with or without :PORT"),
        "Host of every request to it, for http. Without it the first of the site's hosts, or this"
        " node's address where the site has none. A client's own Host never goes on: answers are"
        " shared, whatever name they were asked by.",
        example='"app.internal:8080"',
    )
    sendfile_roots: tuple[SendfileRoot, ...] = setting(
        Several(Written(_parse_sendfile_root, "a folder, or a prefix of URIs, = and a folder")),
        [],
        "Folders of which the application may have files sent in place of its answer's body: by"
        " X-Sendfile with their path, by X-Accel-Redirect with a URI below the prefix, or with the"
        " path where there is none. What lies elsewhere is answered 403. Links are not followed."
        " Empty: such answers are refused, 502.",
        example='["/srv/files", "/protected=/srv/private"]',
    )
    connect_timeout: float = setting(
        Duration(SHORTEST_S, 300.0), "2s", "A host that does not accept in this time is skipped."
    )
    timeout: float = setting(
        Duration(SHORTEST_S, 3600.0),
        "30s",
        "To the first byte of an answer, and between its bytes; then the answer is 504.",
    )
    total_timeout: float = setting(
        Duration(SHORTEST_S, DAY),
        "5m",
        "For one answer altogether. Waiting for a client that reads slowly does not count, and each"
        " 64 KiB of a body, up or down, earn a second. A live answer (text/event-stream, or"
        " X-Accel-Buffering: no, and no Content-Length) has only timeout, between its bytes: an"
        " application that is silent for longer should send a comment now and then.",
    )
    probe: str | None = optional(
        Written(_parse_probe, "a path like /health, or get-values"),
        "Path that every host is asked for (GET; of s3 the first byte of an object), with and"
        " without other traffic. One that twice in a row answers 500 or above, or not in time, is"
        " held down until it answers again, if others are left. Without it connects alone tell."
        " For fastcgi also get-values: the application's own protocol is asked (FCGI_GET_VALUES),"
        " and no script runs. php-fpm answers once a worker is free.",
        example='"/health"',
    )
    probe_interval: float = setting(
        Duration(SHORTEST_S, 3600.0), "5s", "From one probe of a host to the next."
    )
    probe_timeout: float = setting(
        Duration(SHORTEST_S, 300.0), "2s", "For the whole answer to a probe."
    )
    s3: S3 = section(S3, "s3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire:
    """How long browsers and the Squids may keep what this site serves (Cache-Control)."""

    max_age: float = setting(
        Duration(0.0, 3650 * DAY),
        "1h",
        "max-age of originals from the docroot and of derivatives. An origin's own Cache-Control"
        " wins.",
    )
    immutable: bool = setting(
        Switch(),
        False,
        "Promise that a URL's content never changes: browsers do not ask again, not even on reload."
        " Only where a new picture gets a new name.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What this site accepts."""

    max_source_bytes: int = setting(
        Size(1024, 4 * GIB),
        "32MiB",
        "Larger originals are served as they are and never resized: their derivatives answer 413.",
    )
    max_body_bytes: int = setting(
        Size(0, 4 * GIB),
        "1MiB",
        "Longer bodies of requests (POST, PUT, PATCH, DELETE) are refused with 413; others go to"
        " the site's origin, whole: above 64KiB through a file in the cache's folder.",
    )


class Input(enum.StrEnum):
    """Formats that are read where a site switches them on, and never written."""

    TIFF = "tiff"
    JPEG2000 = "jpeg2000"


_QUALITY: Final = Auto(Number(QUALITIES[0], QUALITIES[-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """How this site's derivatives look, and what they may be made from. A change makes them anew,
    as they are asked for."""

    sharpen: bool = setting(
        Switch(),
        False,
        "Give back the sharpness that a reduction takes, wherever a URL asks for neither blur nor"
        " sharpening of its own. Costs a fifth of a render of 1280 pixels, and 2 % of a thumbnail.",
    )
    progressive: bool = setting(
        Switch(),
        False,
        "Write JPEG in passes from coarse to fine: it shows sooner on a slow line, weighs a little"
        " less and takes longer to make.",
    )
    quality_jpeg: int | None = setting(
        _QUALITY, "auto", "Quality where a URL names none; auto is halftone's own choice."
    )
    quality_webp: int | None = setting(_QUALITY, "auto", "Likewise.")
    quality_avif: int | None = setting(_QUALITY, "auto", "Likewise.")
    inputs: tuple[Input, ...] = setting(
        Several(Choice(Input)),
        [],
        "Formats that only originals have. Derivatives of them are JPEG, or PNG with transparency,"
        " where a URL names no format. Off: 415; the originals themselves are always served.",
        example='["tiff"]',
    )
    watermarks: tuple[tuple[str, str], ...] = setting(
        Named(_parse_mark_name, PATH, MAX_WATERMARKS),
        {},
        "Pictures that a URL may lay over a derivative, by the names that URLs call them: a PNG,"
        " WebP or another picture of ours, a regular file and no link, at most 2 MiB and 4"
        " megapixels. A file that is replaced is seen within a second.",
        example='{ logo = "/etc/halftone/logo.png" }',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiate:
    """Which variant of a derivative a client gets, where its URL leaves the format open. Every
    cache in front keeps each variant apart (Vary), and a format in the URL is easier to purge."""

    formats: tuple[NewerFormat, ...] = setting(
        Several(Choice(NewerFormat)),
        [],
        "Newer formats that are sent to clients whose Accept names them. Empty: a derivative has"
        " its source's own format.",
        example='["avif", "webp"]',
    )
    save_data: bool = setting(
        Switch(),
        False,
        "Send a lower quality, about half the bytes, to clients with Save-Data: on.",
    )
    client_hints: bool = setting(
        Switch(),
        False,
        "Ask for the hints DPR and Width (Accept-CH) and follow them: sizes are multiplied by the"
        " pixel ratio of the screen, 3 at most, and no picture is wider than its place. Both are"
        " rounded up to steps.",
    )
    upgrade: bool = setting(
        Switch(),
        True,
        "Where an AVIF is not there yet, send WebP or the own format for a minute, and render the"
        " AVIF when the resizer has nothing else to do.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A host, its originals, and what may be asked of them. May be there several times."""

    LATER: ClassVar[Mapping[str, str]] = {
        "keys": "URLs are not signed yet, so everyone may ask for any derivative",
        "auth": "nothing would be protected",
        "rewrite": "URLs are taken as they come",
        "cors": "no Access-Control header is sent",
        "compress": "bodies are sent as they are",
    }

    hosts: tuple[str, ...] = setting(
        Several(HOST),
        [],
        "Host names, without port, that this site answers to. Empty: the default site, which takes"
        " every host that no other site names.",
        example='["upload.example.org", "img.example.org"]',
    )
    root: str | None = optional(
        PATH,
        "Folder of originals, asked first. A site needs root, origin, or both.",
        example='"/srv/originals"',
        is_live=True,
    )
    symlinks: bool = setting(
        Switch(),
        False,
        "Follow symbolic links in root, as long as they are relative and stay below it. Off: what"
        " a link is, or lies behind one, is answered 403.",
    )
    origin: str | None = optional(
        WORD, "Name of an [[origin]], asked for what the folder does not have.", example='"app"'
    )
    grammars: tuple[Grammar, ...] = setting(
        Several(Choice(Grammar)),
        list(Grammar),
        "The ways in which a URL may ask for a derivative. None: originals only.",
    )
    prefix: str = setting(
        Written(_parse_prefix, "empty, or a path like /img"),
        "",
        "Mount point: only URLs below it belong to this site's originals, and it is taken off.",
        example='"/img"',
    )
    steps: tuple[int, ...] = setting(
        Several(Number(1, MAX_SIDE), is_ascending=True, sort_key=float),
        [],
        "Widths that are rendered, in pixels, ascending; off_step says what happens to others. A"
        " short list keeps the cache small and its hit ratio high. Empty: every width.",
        example="[20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840]",
    )
    off_step: OffStep = setting(
        Choice(OffStep),
        "round",
        "What happens to a width that is no step: the next larger one is served, redirected to,"
        " or the request is rejected, or the width allowed.",
    )
    ladder: Ladder = setting(
        Choice(Ladder),
        "off",
        "Render the other steps too, when the first derivative of an original was asked for: from"
        " one decoding, in one format, when no request waits for a process. Without steps: 120,"
        " 220, 250, 330, 480, 640, 960, 1280; for youtube its names. Nothing wider than the"
        " original. Good where pages show a picture in several sizes; else it costs CPU and disk.",
    )
    extensions: tuple[str, ...] = setting(
        Several(Written(_parse_extension, "a file name ending without its dot")),
        ["jpg", "jpeg", "png", "webp", "avif", "gif"],
        "Tried in this order where a grammar names originals without their ending (youtube).",
    )
    tags: tuple[tuple[str, tuple[str, ...]], ...] = setting(
        Named(_parse_tag, Several(Written(_parse_path, "the start of a path"), least=1), 64),
        {},
        "Tags that originals have by the start of their path, beside those of the origin's"
        " Surrogate-Key: whatever has a tag can be purged by it.",
        example='{ press = ["/press/", "/2026/"] }',
    )
    purge_from: tuple[Network, ...] = setting(
        Several(NETWORK),
        [],
        "Who may PURGE pictures of this site on the public listeners; everyone may on the admin"
        " listener. What counts is the client's address, as trusted_proxies name it: never list an"
        " address that such a proxy gives to others. Empty: nobody, PURGE is answered 405.",
        example='["10.1.2.3"]',
    )
    expire: Expire = section(Expire, "expire")
    limits: Limits = section(Limits, "limits")
    negotiate: Negotiate = section(Negotiate, "negotiate")
    pictures: Pictures = section(Pictures, "pictures")

    @property
    def name(self) -> str:
        """What the cache calls it: constant while its first host is."""
        return self.hosts[0] if self.hosts else "*"
