"""Ask a running farm for pictures, and say whether it did what a farm is for.

    docker-compose exec -T edge1 python3 - BASE < deploy/farm_check.py

Runs inside of the farm's network, where it reaches Squid, both edges and Redis. BASE is what the
host calls Squid, for the table. Exit status 0 when everything was as it should be.
"""

import http.client
import io
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import redis
from PIL import Image

from cache.key import SourceId

SQUID = ("squid", 3128)
EDGES = (("edge1", 8080), ("edge2", 8080))
ADMIN_PORT = 8081
ANSWER_S = 60.0

# What is asked through Squid, and how many pixels it must have.
PICTURES = (
    ("/landscape.jpg", (3600, 2400)),
    ("/thumb/landscape.jpg/330px-landscape.jpg", (330, 220)),
    ("/vi/landscape/hqdefault.jpg", (480, 360)),
    ("/landscape.jpg?w=220", (220, 147)),
)
# What is asked of each edge directly: one makes it, and both must name it alike.
SHARED = "/chart.jpg?w=250"
SHARED_SOURCE = SourceId("*", "/chart.jpg")
MEDIA_TYPE = "image/jpeg"
# What is purged, by one of its derivatives; all of PICTURES are made of it.
PURGED = "/landscape.jpg?w=220"
# The name under which Squid asks (defaultsite), and so the one that the edges know URLs by.
SITE = "img.example.com"
# In this time the other edges have heard of a purge.
HEARD_S = 1.0


@dataclass(frozen=True)
class Reply:
    status: int
    fields: dict[str, str]  # names in lower case
    body: bytes

    @property
    def size(self) -> tuple[int, int] | None:
        """In pixels, of a picture that decodes to its end."""
        try:
            with Image.open(io.BytesIO(self.body)) as image:
                image.load()
                return image.size
        except OSError:
            return None

    @property
    def squid(self) -> str:
        """HIT or MISS."""
        return self.fields.get("x-cache", "-").partition(" ")[0]

    @property
    def edge(self) -> str:
        """Which edge answered, be it now or when Squid asked it."""
        return self.fields.get("cache-status", "-").partition(";")[0]


def ask(address: tuple[str, int], target: str, method: str = "GET", host: str = "") -> Reply:
    connection = http.client.HTTPConnection(*address, timeout=ANSWER_S)
    try:
        connection.request(method, target, headers={"Host": host} if host else {})
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, fields, response.read())
    finally:
        connection.close()


def faults_of(reply: Reply, size: tuple[int, int]) -> Iterator[str]:
    if reply.status != http.HTTPStatus.OK:
        yield f"status {reply.status}, not 200"
        return
    if (media_type := reply.fields.get("content-type")) != MEDIA_TYPE:
        yield f"Content-Type {media_type}, not {MEDIA_TYPE}"
    if reply.size != size:
        yield f"{reply.size} pixels, not {size}"


def check_pictures(base: str) -> Iterator[str]:
    """Twice each through Squid; the second answer must be the first, from Squid's memory."""
    print(f"{'status':>6}  {'pixels':>9}  {'bytes':>7}  {'edge':5}  {'1st':4} {'2nd':4}  URL")
    for target, size in PICTURES:
        first, second = ask(SQUID, target), ask(SQUID, target)
        pixels = "x".join(map(str, second.size)) if second.size else "-"
        print(
            f"{second.status:>6}  {pixels:>9}  {len(second.body):>7}  {second.edge:5}  "
            f"{first.squid:4} {second.squid:4}  {base}{target}"
        )
        yield from (f"{target}: {fault}" for fault in faults_of(first, size))
        if second.squid != "HIT":
            yield f"{target}: the second time Squid says {second.squid}, not HIT"
        if second.body != first.body:
            yield f"{target}: the second body is another one"


def check_index() -> Iterator[str]:
    """What one edge makes stands in Redis, and the other edge gives it the same validator."""
    replies = {name: ask((name, port), SHARED) for name, port in EDGES}
    for name, reply in replies.items():
        yield from (f"{SHARED} of {name}: {fault}" for fault in faults_of(reply, (250, 188)))
        if reply.edge != name:
            yield f"{SHARED} of {name}: Cache-Status names {reply.edge}"
    if len({reply.fields.get("etag") for reply in replies.values()}) != 1:
        yield f"{SHARED}: the edges disagree about its ETag"
    with redis.Redis("redis", socket_timeout=5) as index:
        keys = f"halftone:{{{SHARED_SOURCE.digest.hex()}}}"
        generation, members = index.get(f"{keys}:gen"), index.hlen(f"{keys}:keys")
        has_record = bool(index.exists(f"{keys}:record"))
    print(
        f"in Redis: {SHARED_SOURCE.path} has generation "
        f"{generation.decode() if generation else '-'}, {members} picture(s) made of it"
    )
    if generation is None or not has_record:
        yield f"{SHARED_SOURCE.path} has no record in Redis: the edges share nothing"
    if not members:
        yield f"no picture made of {SHARED_SOURCE.path} is listed in Redis"


def check_purge() -> Iterator[str]:
    """One purge at one edge, and neither Squid nor the other edge has anything of the original."""
    before = {target: ask(SQUID, target) for target, _ in PICTURES}
    reply = ask((EDGES[0][0], ADMIN_PORT), PURGED, "PURGE", SITE)
    if reply.status != http.HTTPStatus.OK:
        yield f"PURGE {PURGED}: status {reply.status}: {reply.body!r}"
        return
    answer = json.loads(reply.body)
    told = answer["downstream"]
    print(
        f"purged: {answer['purged']} entries ({answer['scope']}), of {answer['urls']} URLs Squid"
        f" was told {told['told']}"
    )
    if answer["scope"] != "cluster" or not answer["purged"]:
        yield f"PURGE {PURGED}: it purged {answer['purged']}, scope {answer['scope']}"
    if told["told"] < len(PICTURES) or told["failed"] or told["pending"]:
        yield f"PURGE {PURGED}: Squid was told {told}, of {len(PICTURES)} URLs at least"
    time.sleep(HEARD_S)
    for target, size in PICTURES:
        after = ask(SQUID, target)
        if before[target].squid != "HIT" or after.squid != "MISS":
            yield (
                f"{target}: Squid said {before[target].squid} before the purge,"
                f" {after.squid} after it"
            )
        elif "; hit" in after.fields.get("cache-status", ""):
            yield f"{target}: {after.edge} still had it"
        yield from (f"{target}, purged: {fault}" for fault in faults_of(after, size))


def check_metrics() -> Iterator[str]:
    for name, _ in EDGES:
        reply = ask((name, ADMIN_PORT), "/metrics")
        if reply.status != http.HTTPStatus.OK or b"halftone_requests_total" not in reply.body:
            yield f"{name}: no metrics (status {reply.status})"


def main() -> int:
    base = sys.argv[1] if len(sys.argv) > 1 else "http://squid:3128"
    faults = []
    for check in (lambda: check_pictures(base), check_index, check_purge, check_metrics):
        try:
            faults += check()
        except (OSError, http.client.HTTPException, redis.RedisError) as error:
            faults.append(f"{type(error).__name__}: {error}")
    for fault in faults:
        print(f"WRONG: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
