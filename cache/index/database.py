"""The SQLite file of the embedded index, for one thread at a time: its owner holds a lock.

A plain commit is in the WAL, not synced: after a power cut the last ones may be gone, which loses
hints. A durable one runs with synchronous=FULL. A file that is damaged is set aside as
PATH.corrupt-SECONDS (the last one is kept) and an empty one takes its place, with another epoch, so
nothing that was stored before counts as current.

Tokens only grow, even for a source that was dropped for want of room: the floor remembers the
highest generation that was ever dropped.
"""

import contextlib
import glob
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, NamedTuple

from cache.errors import IndexUnavailable
from cache.index import catalogue, log
from cache.index.causes import Cause
from cache.index.interface import (
    BOUNDS,
    EPOCH_DIGITS,
    MAX_FAILURES,
    MAX_MEMBERS,
    SETTLE_MS,
    Bounds,
    Known,
    Member,
    OrderPage,
    Overtaken,
    Surveyed,
    Token,
)
from cache.key import SourceId
from cache.orders import Order, Scope

# There is one writer; this is for a predecessor that is still closing the file.
BUSY_TIMEOUT_S: Final = 0.1
# After a failed opening calls are refused for so long, so that a bad disk is not hammered.
REOPEN_S: Final = 0.5
# Of a source's id, in the places of members.
_ID_BYTES: Final = 8
# Oldest sources dropped at a time.
_DROP: Final = 100
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# By primary result codes.
_CAUSES: Final = {
    sqlite3.SQLITE_BUSY: Cause.IN_USE,
    sqlite3.SQLITE_LOCKED: Cause.IN_USE,
    sqlite3.SQLITE_FULL: Cause.FULL,
    sqlite3.SQLITE_READONLY: Cause.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Cause.UNREACHABLE,
}

_SETTINGS: Final = (
    # Nobody else may open the file: see embedded.py. Set before WAL, so that no -shm is made.
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA temp_store = MEMORY",
)
# Raised with every change of the tables: a file of another layout starts anew, as a lost one does.
_LAYOUT: Final = 2
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS source (
        id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, generation INTEGER NOT NULL,
        applied INTEGER, record BLOB)""",
    """CREATE TABLE IF NOT EXISTS member (
        source INTEGER, digest BLOB, size INTEGER NOT NULL, PRIMARY KEY (source, digest)
        ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS failure (
        source INTEGER, digest BLOB, until INTEGER NOT NULL, packed BLOB NOT NULL,
        PRIMARY KEY (source, digest)) WITHOUT ROWID""",
    *log.TABLES,
    *catalogue.TABLES,
)

# An entry of a source of this generation, while there are fewer others than the last parameter.
_PUBLISH: Final = """INSERT OR REPLACE INTO member SELECT id, ?, ? FROM source
    WHERE digest = ? AND generation = ?
    AND (SELECT count(*) FROM member WHERE source = id AND digest != ?) < ?"""

_log = logging.getLogger(__name__)


class _Row(NamedTuple):
    id: int
    generation: int
    applied: int | None  # None: known for its URLs only, nobody has opened it yet
    record: bytes | None


class Found(NamedTuple):
    token: Token
    record: bytes | None
    applied: int
    failures: tuple[tuple[bytes, bytes], ...] = ()


class Database:
    """Opened at the first transaction, and again after a failure. clock: seconds since 1970."""

    def __init__(
        self,
        path: str,
        *,
        clock: Callable[[], float],
        random: Random,
        max_sources: int,
        bounds: Bounds = BOUNDS,
    ) -> None:
        self.commits = 0
        self.rebuilt = 0
        self._path = path
        self._clock = clock
        self._random = random
        self._max_sources = max_sources
        self._bounds = bounds
        self._db: sqlite3.Connection | None = None
        self._epoch = ""
        self._floor = 0
        self._first = 0  # no row has a lower id
        self._last_seq = 0
        self._reopen_at = 0.0
        self.causes: dict[Cause, int] = dict.fromkeys(Cause, 0)
        """Of what failed; only this thread writes it."""
        self.is_shut = False
        """It could not be opened when it was last tried."""
        self.times_shut = 0

    def transact(self, steps: Callable[[], None], *, is_durable: bool) -> None:
        """Run steps in one transaction. Raises IndexUnavailable; then nothing of it happened."""
        db = self._opened()
        try:
            if is_durable:
                db.execute("PRAGMA synchronous = FULL")  # not allowed inside a transaction
            db.execute("BEGIN IMMEDIATE")
            steps()
            db.execute("COMMIT")
            if is_durable:
                db.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as error:
            raise self._failed(error) from error
        self.commits += 1

    def publish_alone(self, digest: bytes, token: Token, entry: bytes, size: int) -> bool:
        """publish() as a transaction of its own: one statement, where it succeeds. Raises
        IndexUnavailable; then nothing of it happened."""
        db = self._opened()
        if token.epoch == self._epoch:
            try:
                row = (entry, size, digest, token.generation, entry, MAX_MEMBERS)
                listed = db.execute(_PUBLISH, row)
            except sqlite3.Error as error:
                raise self._failed(error) from error
            if listed.rowcount > 0:
                self.commits += 1
                return True
        found = False

        def step() -> None:  # refused, or beyond MAX_MEMBERS
            nonlocal found
            found = self.publish(digest, token, entry, size)

        self.transact(step, is_durable=False)
        return found

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    # Steps, inside a transaction

    def open_source(self, digest: bytes, barrier: int, head: int, settled: int = 0) -> Found:
        """The token, made on first sight; what is stored under it, as bytes."""
        row = self._find(digest)
        # Whatever raises or makes a generation leaves nothing that is older than all of head.
        head = max(barrier, head)
        if row is None:
            return Found(self._insert(digest, head)[1], None, head)
        db = self._connection
        if row.applied is None:
            db.execute("UPDATE source SET applied = ? WHERE id = ?", (head, row.id))
            return Found(Token(self._epoch, row.generation), None, head)
        if row.applied < barrier:
            return Found(self._raise(row, head), None, head)
        applied = row.applied
        if settled - applied > SETTLE_MS:
            applied = settled
            db.execute("UPDATE source SET applied = ? WHERE id = ?", (applied, row.id))
        failures = db.execute("SELECT digest, packed FROM failure WHERE source = ?", (row.id,))
        token = Token(self._epoch, row.generation)
        return Found(token, row.record, applied, tuple(failures.fetchall()))

    def put_source(
        self, source: SourceId, token: Token, record: bytes, tags: Sequence[str]
    ) -> tuple[bool, int]:
        """True when stored, and how many tags did not fit the catalogue."""
        row = self._maybe_current(source.digest, token)
        if row is None:
            return False, 0
        db = self._connection
        db.execute("UPDATE source SET record = ? WHERE id = ?", (record, row))
        if not tags and not catalogue.is_listed(db, row):
            return True, 0
        return True, catalogue.register(db, row, source.site, source.path, tags)

    def publish(self, digest: bytes, token: Token, entry: bytes, size: int) -> bool:
        source = self._maybe_current(digest, token)
        if source is None:
            return False
        db = self._connection
        (others,) = db.execute(
            "SELECT count(*) FROM member WHERE source = ? AND digest != ?", (source, entry)
        ).fetchone()
        if others < MAX_MEMBERS:
            db.execute("INSERT OR REPLACE INTO member VALUES (?, ?, ?)", (source, entry, size))
        return True

    def forget(self, digest: bytes, entry: bytes) -> None:
        row = self._find(digest)
        if row is not None:
            self._connection.execute(
                "DELETE FROM member WHERE source = ? AND digest = ?", (row.id, entry)
            )

    def members(self, digest: bytes) -> tuple[bytes, ...]:
        row = self._find(digest)
        if row is None:
            return ()
        rows = self._connection.execute("SELECT digest FROM member WHERE source = ?", (row.id,))
        return tuple(entry for (entry,) in rows)

    def look_up(self, digest: bytes) -> Known | None:
        row = self._find(digest)
        if row is None:
            return None
        return Known(Token(self._epoch, row.generation), self.members(digest))

    def all_members(self, after: bytes, limit: int) -> tuple[Member, ...]:
        """A place is the source's id, big-endian, then the digest: the order of the table's key."""
        first = (int.from_bytes(after[:_ID_BYTES], "big"), after[_ID_BYTES:])
        rows = self._connection.execute(
            "SELECT member.source, source.digest, member.digest FROM member"
            " JOIN source ON source.id = member.source"
            " WHERE (member.source, member.digest) > (?, ?)"
            " ORDER BY member.source, member.digest LIMIT ?",
            (*first, limit),
        )
        return tuple(
            Member(source, digest, row.to_bytes(_ID_BYTES, "big") + digest)
            for row, source, digest in rows
        )

    def unlist(self, members: Sequence[Member]) -> None:
        for member in members:
            self.forget(member.source, member.digest)

    def purge(self, digest: bytes) -> tuple[Token, tuple[bytes, ...]]:
        """Raise the generation; the new token, and the members that were dropped."""
        row = self._find(digest)
        if row is None:
            return self._insert(digest, 0, is_raised=True)[1], ()
        dropped = self.members(digest)
        return self._raise(row, row.applied or 0), dropped

    def overtake(self, digest: bytes) -> Overtaken:
        """What was forgotten was this process's own, so what is not listed is not there; but for
        what was beyond MAX_MEMBERS, which the new generation makes unreachable."""
        row = self._find(digest)
        if row is None:
            # There may be files of another epoch, which stand in for what is lost as long as the
            # source was not purged in this one.
            return Overtaken(is_bare=True, token=self._insert(digest, 0, is_raised=True)[1])
        (listed,) = self._connection.execute(
            "SELECT EXISTS (SELECT 1 FROM member WHERE source = ?)"
            " OR EXISTS (SELECT 1 FROM failure WHERE source = ?)",
            (row.id, row.id),
        ).fetchone()
        if listed or row.record is not None:
            return Overtaken(is_bare=False)
        return Overtaken(is_bare=True, token=self._raise(row, row.applied or 0))

    def put_failure(
        self, digest: bytes, token: Token, name: bytes, until: int, packed: bytes
    ) -> bool:
        source = self._maybe_current(digest, token)
        if source is None:
            return False
        now = int(self._clock())
        if until <= now:
            return True
        db = self._connection
        others = "SELECT count(*) FROM failure WHERE source = ? AND digest != ?"
        if db.execute(others, (source, name)).fetchone()[0] >= MAX_FAILURES:
            db.execute("DELETE FROM failure WHERE source = ? AND until <= ?", (source, now))
        if db.execute(others, (source, name)).fetchone()[0] < MAX_FAILURES:
            row = (source, name, until, packed)
            db.execute("INSERT OR REPLACE INTO failure VALUES (?, ?, ?, ?)", row)
        return True

    # The log

    def announce(self, order: Order) -> int:
        """The order's seq, or 0 when too many sources are taken down."""
        above = max(self._last_seq, order.seq)
        seq = log.announce(self._connection, order, self._now_ms(), above, self._bounds)
        # Also above what a file had that was damaged since.
        self._last_seq = max(self._last_seq, seq)
        return seq

    def orders(self, after: int) -> OrderPage:
        page = log.page(self._connection, after, self._epoch)
        self._last_seq = max(self._last_seq, page.head)
        return page

    def takedowns(self) -> frozenset[SourceId]:
        return log.takedowns(self._connection)

    # The catalogue

    def add_spellings(self, source: SourceId, urls: Sequence[str]) -> int:
        """How many did not fit."""
        row = self._find(source.digest)
        db = self._connection
        known = self._insert(source.digest, None)[0] if row is None else row.id
        catalogue.register(db, known, source.site, source.path, None)
        return catalogue.add_spellings(db, known, urls)

    def spellings(self, digest: bytes) -> tuple[str, ...]:
        row = self._find(digest)
        return () if row is None else catalogue.spellings(self._connection, row.id)

    def survey(self, digests: Sequence[bytes]) -> tuple[Surveyed, ...]:
        return tuple(map(self._survey, digests))

    def _survey(self, digest: bytes) -> Surveyed:
        row = self._connection.execute(
            "SELECT id, (SELECT count(*) FROM member WHERE member.source = source.id)"
            " FROM source WHERE digest = ?",
            (digest,),
        ).fetchone()
        if row is None:
            return Surveyed(0, ())
        source, entries = row
        return Surveyed(entries, catalogue.spellings(self._connection, source))

    def listed(self, scope: Scope, site: str, value: str, limit: int) -> tuple[str, ...]:
        return catalogue.listed(self._connection, scope, site, value, limit)

    # What the steps are made of

    def _raise(self, row: _Row, applied: int) -> Token:
        """A new generation, of which nothing is stored."""
        db = self._connection
        raised = max(row.generation + 1, self._now_ms()) | 1
        db.execute(
            "UPDATE source SET generation = ?, applied = ?, record = NULL WHERE id = ?",
            (raised, applied, row.id),
        )
        db.execute("DELETE FROM member WHERE source = ?", (row.id,))
        db.execute("DELETE FROM failure WHERE source = ?", (row.id,))
        return Token(self._epoch, raised)

    def _find(self, digest: bytes) -> _Row | None:
        row = self._connection.execute(
            "SELECT id, generation, applied, record FROM source WHERE digest = ?", (digest,)
        ).fetchone()
        return None if row is None else _Row(*row)

    def _maybe_current(self, digest: bytes, token: Token) -> int | None:
        row = self._find(digest)
        if row is None or token != Token(self._epoch, row.generation):
            return None
        return row.id

    def _insert(
        self, digest: bytes, applied: int | None, *, is_raised: bool = False
    ) -> tuple[int, Token]:
        """The row's id and its token."""
        db = self._connection
        generation = self._now_ms() & ~1
        if generation <= self._floor:
            generation = (self._floor + 1) | 1  # it may have been purged before it was dropped
        generation |= is_raised
        row = db.execute(
            "INSERT INTO source (digest, generation, applied) VALUES (?, ?, ?)",
            (digest, generation, applied),
        ).lastrowid
        assert row is not None
        self._first = min(self._first, row)
        # Ids are handed out in order and dropped in order, so this is their number at the most.
        if row - self._first >= self._max_sources:
            (self._first,) = db.execute("SELECT min(id) FROM source").fetchone()
            if row - self._first >= self._max_sources:
                self._drop_oldest(self._first + _DROP)
        return row, Token(self._epoch, generation)

    def _drop_oldest(self, before: int) -> None:
        db = self._connection
        (highest,) = db.execute(
            "SELECT max(generation) FROM source WHERE id < ?", (before,)
        ).fetchone()
        self._floor = max(self._floor, highest)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('floor', ?)", (self._floor,))
        db.execute("DELETE FROM member WHERE source < ?", (before,))
        db.execute("DELETE FROM failure WHERE source < ?", (before,))
        catalogue.drop(db, before)
        db.execute("DELETE FROM source WHERE id < ?", (before,))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._db is not None
        return self._db

    # Opening

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None:
            return self._db
        now = time.monotonic()
        if now < self._reopen_at:
            raise IndexUnavailable(f"index {self._path} could not be opened a moment ago")
        self._reopen_at = now + REOPEN_S
        try:
            self._open()
        except sqlite3.Error as error:
            failure = self._failed(error)
            self.close()
            if not _is_damage(error):
                self._note_shut(error)
                raise failure from error
            try:
                self._open()  # empty by now, since _failed() set the damaged file aside
            except sqlite3.Error as again:
                self.close()
                self._note_shut(again)
                raise IndexUnavailable(f"index {self._path}: {again}") from again
        self._reopen_at = 0.0
        if self.is_shut:
            self.is_shut = False
            _log.warning("index %s can be opened again", self._path)
        return self._connection

    def _open(self) -> None:
        db = self._db = sqlite3.connect(
            self._path,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            cached_statements=64,
            check_same_thread=False,
        )
        for setting in _SETTINGS:
            db.execute(setting)
        (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            # A network file system: locks and shared memory cannot be trusted there.
            raise sqlite3.OperationalError(f"journal mode is {mode}, not wal")
        (layout,) = db.execute("PRAGMA user_version").fetchone()
        db.execute("BEGIN IMMEDIATE")
        if layout != _LAYOUT:
            tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            for (table,) in tables:
                db.execute(f"DROP TABLE {table}")
            db.execute(f"PRAGMA user_version = {_LAYOUT}")
        for statement in _SCHEMA:
            db.execute(statement)
        epoch = f"{self._random.getrandbits(4 * EPOCH_DIGITS):0{EPOCH_DIGITS}x}"
        db.execute("INSERT OR IGNORE INTO meta VALUES ('epoch', ?)", (epoch,))
        values = dict(db.execute("SELECT name, value FROM meta").fetchall())
        db.execute("COMMIT")
        self._epoch = values["epoch"]
        self._first = 0
        self._floor = values.get("floor", 0)

    def _note_shut(self, error: sqlite3.Error) -> None:
        if self.is_shut:
            return
        self.is_shut = True
        self.times_shut += 1
        in_use = _cause_of(error) is Cause.IN_USE
        why = " (does another node, or halftone fsck, use this cache folder?)" if in_use else ""
        _log.error(
            "index %s cannot be opened: %s%s; purges are answered 503 until it can",
            *(self._path, error, why),
        )

    def _failed(self, error: sqlite3.Error) -> IndexUnavailable:
        self.causes[_cause_of(error)] += 1
        if _is_damage(error):
            _log.error("index %s is damaged (%s), starting an empty one", self._path, error)
            self.close()
            self._set_aside()
        elif self._db is not None:
            try:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                self._db.execute("PRAGMA synchronous = NORMAL")
            except sqlite3.Error:
                self.close()
        return IndexUnavailable(f"index {self._path}: {error}")

    def _set_aside(self) -> None:
        self.rebuilt += 1
        self._reopen_at = 0.0
        for older in glob.glob(f"{glob.escape(self._path)}.corrupt-*"):
            with contextlib.suppress(OSError):
                os.unlink(older)
        aside = f"{self._path}.corrupt-{int(self._clock())}"
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._path + suffix, aside + suffix)


def _cause_of(error: sqlite3.Error) -> Cause:
    return _CAUSES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, Cause.OTHER)


def _is_damage(error: sqlite3.Error) -> bool:
    # The lowest byte is the primary result code, the rest says more precisely where.
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _DAMAGED
