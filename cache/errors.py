"""What a store can refuse.

CacheError
|- DamagedEntry      a file is not what its name promises: unlink, count, treat as a miss
|- DoesNotFit        larger than the tier may ever hold; the caller serves without storing
|- NoSpace           the disk said no (ENOSPC, EDQUOT, inodes); serve without storing
|- StaleToken        the source was purged since the fill read its token; nothing was published
`- IndexUnavailable  the index cannot answer in its budget; local decisions go on, a purge fails
"""


class CacheError(Exception):
    """Base of everything that cache raises to its callers. The text is for the log."""


class DamagedEntry(CacheError):
    pass


class DoesNotFit(CacheError):
    pass


class NoSpace(CacheError):
    pass


class StaleToken(CacheError):
    pass


class IndexUnavailable(CacheError):
    pass
