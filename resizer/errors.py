"""What can go wrong with a picture, by whose fault.

ResizeError
|- BadPicture            the source's fault; the same bytes fail again
|  |- UnsupportedFormat  no picture, or a format that is switched off
|  |- CorruptPicture     starts like a picture and cannot be decoded to its end
|  |- PictureTooLarge    over the limit on bytes, pixels, sides or frames
|  `- PictureBarred      killed a worker twice; refused until the bar expires
|- ImpossibleTransform   the request's fault: no legal output for this picture
`- ResizerUnavailable    our fault; trying again later may help
   |- QueueFull          admission refused it, or it gave way; carries retry_after_s
   |- DeadlineExceeded   the worker was killed at its deadline
   |  `- WaitExceeded    no worker was free until then: says nothing of the picture
   |- WorkerCrashed      the worker died while it held the job
   |- TransferFailed     the source could not be read or the sink not written (disk full)
   |- MarkUnusable       the site's watermark is no picture, or too large a one
   `- ResizerStopped     the pool is stopping or has no worker
"""


class ResizeError(Exception):
    """Base of everything that resizer raises to its callers. The text is for the log."""


class BadPicture(ResizeError):
    pass


class UnsupportedFormat(BadPicture):
    pass


class CorruptPicture(BadPicture):
    pass


class PictureTooLarge(BadPicture):
    pass


class PictureBarred(BadPicture):
    pass


class ImpossibleTransform(ResizeError):
    pass


class ResizerUnavailable(ResizeError):
    pass


class QueueFull(ResizerUnavailable):
    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(ResizerUnavailable):
    pass


class WaitExceeded(DeadlineExceeded):
    pass


class WorkerCrashed(ResizerUnavailable):
    pass


class TransferFailed(ResizerUnavailable):
    pass


class MarkUnusable(ResizerUnavailable):
    pass


class ResizerStopped(ResizerUnavailable):
    pass
