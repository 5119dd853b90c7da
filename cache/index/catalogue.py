"""Which sources have URLs or tags, in the SQLite file; steps inside a transaction.

All of it hangs on rows of the table source and goes with them, so it is as bounded as they are.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

from cache.index.interface import MAX_LISTED_TAGS, MAX_SPELLINGS, catalogue_of
from cache.orders import Scope

TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS spelling (
        source INTEGER, number INTEGER, url TEXT NOT NULL, PRIMARY KEY (source, number)
        ) WITHOUT ROWID""",
    # A site's and a tag's digest, and the source's path in bytes, whose order is the path's own.
    """CREATE TABLE IF NOT EXISTS listed (
        catalogue BLOB, path BLOB, source INTEGER NOT NULL, PRIMARY KEY (catalogue, path)
        ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS listed_by_source ON listed (source)",
)


def add_spellings(db: sqlite3.Connection, source: int, urls: Sequence[str]) -> int:
    """How many did not fit."""
    known = spellings(db, source)
    fresh = [url for url in dict.fromkeys(urls) if url not in known]
    room = MAX_SPELLINGS - len(known)
    db.executemany(
        "INSERT INTO spelling VALUES (?, ?, ?)",
        ((source, len(known) + number, url) for number, url in enumerate(fresh[:room])),
    )
    return max(0, len(fresh) - room)


def spellings(db: sqlite3.Connection, source: int) -> tuple[str, ...]:
    rows = db.execute("SELECT url FROM spelling WHERE source = ? ORDER BY number", (source,))
    return tuple(url for (url,) in rows)


def register(
    db: sqlite3.Connection, source: int, site: str, path: str, tags: Sequence[str] | None
) -> int:
    """List a source under its site, and under these tags alone; None: no news of its tags.

    Answers how many tags did not fit.
    """
    fresh = tuple(dict.fromkeys(tags or ()))
    names = [catalogue_of(site), *(catalogue_of(site, tag) for tag in fresh[:MAX_LISTED_TAGS])]
    if tags is not None:
        db.execute("DELETE FROM listed WHERE source = ?", (source,))
    raw = path.encode()
    db.executemany(
        "INSERT OR REPLACE INTO listed VALUES (?, ?, ?)", ((name, raw, source) for name in names)
    )
    return len(fresh) - len(names) + 1


def is_listed(db: sqlite3.Connection, source: int) -> bool:
    return db.execute("SELECT 1 FROM listed WHERE source = ?", (source,)).fetchone() is not None


def listed(
    db: sqlite3.Connection, scope: Scope, site: str, value: str, limit: int
) -> tuple[str, ...]:
    """Paths, by their start or by a tag."""
    if scope is Scope.TAG:
        rows = db.execute(
            "SELECT path FROM listed WHERE catalogue = ? ORDER BY path LIMIT ?",
            (catalogue_of(site, value), limit),
        )
    else:
        start = value.encode()
        rows = db.execute(
            # No byte of UTF-8 is 255.
            "SELECT path FROM listed WHERE catalogue = ? AND path >= ? AND path < ? LIMIT ?",
            (catalogue_of(site), start, start + b"\xff", limit),
        )
    return tuple(path.decode() for (path,) in rows)


def drop(db: sqlite3.Connection, before: int) -> None:
    """What hangs on sources that are dropped."""
    db.execute("DELETE FROM spelling WHERE source < ?", (before,))
    db.execute("DELETE FROM listed WHERE source < ?", (before,))
