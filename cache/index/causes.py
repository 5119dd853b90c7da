"""Why a question to the index failed, as words for a metric: what to look at first. Pure."""

import enum


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
