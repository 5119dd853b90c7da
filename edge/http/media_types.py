"""Media types by file name ending, for docroot files. A table of our own: what a node serves must
not depend on the mime.types of the machine it runs on."""

from typing import Final

_BY_EXTENSION: Final = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "css": "text/css; charset=utf-8",
    "gif": "image/gif",
    "htm": "text/html; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "jp2": "image/jp2",
    "jpe": "image/jpeg",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "jxl": "image/jxl",
    "mp4": "video/mp4",
    "ogv": "video/ogg",
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "txt": "text/plain; charset=utf-8",
    "webm": "video/webm",
    "webp": "image/webp",
    "woff2": "font/woff2",
    "xml": "application/xml",
}
UNKNOWN: Final = "application/octet-stream"


def media_type_of(path: str) -> str:
    """The type that the ending of a path stands for."""
    # A path begins with a slash: where its name has no dot, a slash is in what is looked up.
    return _BY_EXTENSION.get(path.rpartition(".")[2].lower(), UNKNOWN)
