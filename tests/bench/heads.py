"""Request heads as a load generator sends them: short ones, and as Squid forwards a browser's.

Squid adds Via, Surrogate-Capability, X-Forwarded-For, Cache-Control (max-age from its largest
refresh_pattern) and Connection to what the browser sent. The values vary as they do behind a real
cache: a dictionary from whole heads to parsed requests must not look better here than in service.
"""

import random
from collections.abc import Iterable, Sequence

HOST = "upload.example.org"

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_{minor} like Mac OS X) AppleWebKit/605.1.15"
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{major}.0.0.0"
USER_AGENTS = (
    f"{WINDOWS}) {CHROME} Safari/537.36",
    f"{WINDOWS}; rv:{{major}}.0) Gecko/20100101 Firefox/{{major}}.0",
    f"{MAC} Version/18.{{minor}} Safari/605.1.15",
    f"{PHONE} (KHTML, like Gecko) Version/18.{{minor}} Mobile/15E148 Safari/604.1",
    f"Mozilla/5.0 (Linux; Android 10; K) {CHROME} Mobile Safari/537.36",
)
LANGUAGES = ("en-GB,en;q=0.9", "de-DE,de;q=0.9,en;q=0.7", "fr;q=0.9,en;q=0.6", "ja,en;q=0.5", "en")
ACCEPT = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
PAGES = ("wiki", "album", "search", "user", "category")


def squid_head(path: str, draw: random.Random) -> str:
    """A GET with twelve headers, ended by the blank line."""
    agent = draw.choice(USER_AGENTS).format(major=draw.randint(118, 147), minor=draw.randint(0, 6))
    page = f"https://www.example.org/{draw.choice(PAGES)}/{draw.randint(1, 99999)}"
    client = f"{draw.randint(11, 126)}.{draw.randint(0, 255)}.{draw.randint(0, 255)}.7"
    headers = (
        ("Host", HOST),
        ("User-Agent", agent),
        ("Accept", ACCEPT),
        ("Accept-Language", draw.choice(LANGUAGES)),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Referer", page),
        ("Cookie", f"session={draw.getrandbits(96):024x}; theme=light"),
        ("Via", "1.1 squid1.example.org (squid/5.7)"),
        ("Surrogate-Capability", 'img-farm="Surrogate/1.0"'),
        ("X-Forwarded-For", client),
        ("Cache-Control", "max-age=259200"),
        ("Connection", "keep-alive"),
    )
    return _head(path, headers)


def short_head(path: str) -> str:
    return _head(path, (("Host", HOST),))


def squid_heads(paths: Sequence[str], count: int, seed: int) -> list[str]:
    """count distinct heads; every path is asked for equally often, in shuffled order."""
    draw = random.Random(seed)
    asked = [paths[i % len(paths)] for i in range(count)]
    draw.shuffle(asked)
    return [squid_head(path, draw) for path in asked]


def pool_text(heads: Iterable[str]) -> bytes:
    """What wrk.lua reads: each head ended by a NUL, which no head can hold."""
    return b"".join(head.encode("ascii") + b"\0" for head in heads)


def _head(path: str, headers: Iterable[tuple[str, str]]) -> str:
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines) + "\r\n\r\n"
