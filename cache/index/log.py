"""The log of orders in the SQLite file; steps inside a transaction. See cache/orders.py.

Orders for single sources are kept apart from those for tags and prefixes, each kind up to its
bound, so that many of the first do not push out the second and move the horizon.
"""

import sqlite3
from typing import Final

from cache.index.interface import Bounds, OrderPage
from cache.index.record import maybe_order, pack_order
from cache.key import SourceId
from cache.orders import Act, Order, Scope

TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS orders (
        seq INTEGER PRIMARY KEY, is_wide INTEGER NOT NULL, packed BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS orders_by_kind ON orders (is_wide, seq)",
    """CREATE TABLE IF NOT EXISTS takedown (
        digest BLOB PRIMARY KEY, site TEXT NOT NULL, path TEXT NOT NULL) WITHOUT ROWID""",
)


def announce(db: sqlite3.Connection, order: Order, now_ms: int, used: int, bounds: Bounds) -> int:
    """Append; the new seq, above used, or 0 when too many are taken down."""
    if order.act is Act.TAKE_DOWN:
        if not _take_down(db, order.source, bounds.takedowns):
            return 0
    elif order.act is Act.LIFT:
        db.execute("DELETE FROM takedown WHERE digest = ?", (order.source.digest,))
    is_wide = order.scope is not Scope.SOURCE
    seq = max(_state(db, "head") + 1, used + 1, now_ms)
    db.execute("INSERT INTO orders VALUES (?, ?, ?)", (seq, is_wide, pack_order(order)))
    _set_state(db, "head", seq)
    (count,) = db.execute("SELECT count(*) FROM orders WHERE is_wide = ?", (is_wide,)).fetchone()
    if count > bounds.orders:
        _drop(db, is_wide, count - bounds.orders)
    return seq


def page(db: sqlite3.Connection, after: int, epoch: str) -> OrderPage:
    query = "SELECT seq, is_wide, packed FROM orders WHERE seq > ? ORDER BY seq"
    orders = []
    # What cannot be read may have been anything: it counts as dropped.
    horizon, forgotten = _state(db, "horizon"), _state(db, "forgotten")
    for seq, is_wide, packed in db.execute(query, (after,)):
        order = maybe_order(packed, seq)
        if order is not None:
            orders.append(order)
        elif is_wide:
            horizon = max(horizon, seq)
        else:
            forgotten = max(forgotten, seq)
    return OrderPage(tuple(orders), _state(db, "head"), horizon, epoch, forgotten)


def takedowns(db: sqlite3.Connection) -> frozenset[SourceId]:
    return frozenset(SourceId(*row) for row in db.execute("SELECT site, path FROM takedown"))


def _take_down(db: sqlite3.Connection, source: SourceId, bound: int) -> bool:
    known = db.execute("SELECT 1 FROM takedown WHERE digest = ?", (source.digest,)).fetchone()
    (count,) = db.execute("SELECT count(*) FROM takedown").fetchone()
    if known is None and count >= bound:
        return False
    row = (source.digest, source.site, source.path)
    db.execute("INSERT OR REPLACE INTO takedown VALUES (?, ?, ?)", row)
    return True


def _drop(db: sqlite3.Connection, is_wide: bool, surplus: int) -> None:
    (last,) = db.execute(
        "SELECT seq FROM orders WHERE is_wide = ? ORDER BY seq LIMIT 1 OFFSET ?",
        (is_wide, surplus - 1),
    ).fetchone()
    db.execute("DELETE FROM orders WHERE is_wide = ? AND seq <= ?", (is_wide, last))
    _set_state(db, "horizon" if is_wide else "forgotten", last)


def _state(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def _set_state(db: sqlite3.Connection, name: str, value: int) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
