"""URLs on the command line."""

import urllib.parse

import click


def split_url(url: str, site: str) -> tuple[str, str, str]:
    """Target, host and scheme."""
    if url.startswith("/"):
        return escaped(url), site, "http"
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        raise click.UsageError(f"{url!r} is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        raise click.UsageError(f"{url!r} is neither http://HOST/PATH nor a path from / on")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return escaped(target), parts.netloc, parts.scheme


def escaped(target: str) -> str:
    """What a URL may hold stays as it is; the rest, such as spaces, is percent-encoded."""
    return urllib.parse.quote(target, safe="/%?&=:@!$'()*+,;~-._[]")
