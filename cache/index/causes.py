"""Why a question to the index failed, as words for a metric: what to look at first. Pure."""

import enum
import sqlite3
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout


class Cause(enum.StrEnum):
    # Of Redis
    UNREACHABLE = "unreachable"  # no connection, or it broke off
    LATE = "late"  # connected, and no answer within the budget
    PASSWORD = "password"  # noqa: S105 - a word for what is wrong
    RIGHTS = "rights"  # the account may not do it
    FULL = "full"  # maxmemory with noeviction; of the embedded index, its disk
    READ_ONLY = "read_only"  # a replica; of the embedded index, its folder
    LOADING = "loading"  # it reads its file after a start
    # Of the embedded index
    IN_USE = "in_use"  # another process has the file open
    OTHER = "other"


# The first that fits; AuthenticationError and its like are connection errors to redis-py.
_OF_REDIS: Final[tuple[tuple[type[BaseException], Cause], ...]] = (
    (AuthenticationError, Cause.PASSWORD),
    (AuthorizationError, Cause.RIGHTS),
    (NoPermissionError, Cause.RIGHTS),
    (BusyLoadingError, Cause.LOADING),
    (OutOfMemoryError, Cause.FULL),
    (ReadOnlyError, Cause.READ_ONLY),
    (RedisTimeout, Cause.LATE),
    (TimeoutError, Cause.LATE),
    (RedisConnectionError, Cause.UNREACHABLE),
    (OSError, Cause.UNREACHABLE),
)
# Primary result codes: the lowest byte of what SQLite says.
_OF_SQLITE: Final = {
    sqlite3.SQLITE_BUSY: Cause.IN_USE,
    sqlite3.SQLITE_LOCKED: Cause.IN_USE,
    sqlite3.SQLITE_FULL: Cause.FULL,
    sqlite3.SQLITE_READONLY: Cause.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: Cause.UNREACHABLE,
}


def cause_of(error: BaseException) -> Cause:
    for kind, cause in _OF_REDIS:
        if isinstance(error, kind):
            return cause
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return Cause.OTHER if code is None else _OF_SQLITE.get(code & 0xFF, Cause.OTHER)
