"""What a store can refuse.

CacheError
|- DamagedEntry      a file is not what its name promises: unlink, count, treat as a miss
|- NewerEntry        a file is of a later version of this program: leave it there, treat as a miss
|- NotStored         nothing was published; the caller serves the bytes in hand, without storing
|  |- DoesNotFit     larger than the tier may ever hold
|  |- NoSpace        the disk said no (ENOSPC, EDQUOT, EFBIG)
|  |- DiskFailed     the disk failed in another way (EIO, EMFILE, EACCES ...)
|  `- StaleToken     the source was purged since the fill read its token
|- IndexUnavailable  the index cannot answer in its budget; local decisions go on, a purge fails
|- StoreBusy         too many disk operations wait already; try again later
`- FlightError
   |- TooManyFlights the table of running fills is full; try again later
   |- LedElsewhere   another node or worker fills it, and was waited for long enough
   `- FlightLost     the fill was cancelled before it ended (the node stops)
"""


class CacheError(Exception):
    """Base of everything that cache raises to its callers. The text is for the log."""


class DamagedEntry(CacheError):
    pass


class NewerEntry(CacheError):
    pass


class NotStored(CacheError):
    pass


class DoesNotFit(NotStored):
    pass


class NoSpace(NotStored):
    pass


class Paused(NoSpace):
    """It was full a moment ago. Told of once, when the pause began, and not by whoever meets it."""


class DiskFailed(NotStored):
    pass


class NoFolder(DiskFailed):
    """All folders are lost, each of which was told of."""


class StaleToken(NotStored):
    pass


class IndexUnavailable(CacheError):
    pass


class StoreBusy(CacheError):
    pass


class FlightError(CacheError):
    pass


class TooManyFlights(FlightError):
    pass


class LedElsewhere(FlightError):
    pass


class FlightLost(FlightError):
    pass
