"""Picture formats: names, media types, magic numbers. Pure: knows no codec."""

import enum


class Format(enum.StrEnum):
    """A format that is read and written, by the name used in URLs."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"
    GIF = "gif"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"


class InputOnly(enum.StrEnum):
    """A format that is read where a site switches it on, and never written."""

    TIFF = "tiff"
    JPEG2000 = "jp2"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"


# What a source may be.
SourceFormat = Format | InputOnly

# What a source becomes that nobody writes, when the request names no format: without and with
# transparency.
STAND_INS = (Format.JPEG, Format.PNG)

# Formats that may hold a picture that moves, and of which we write those.
MOVING = frozenset({Format.GIF, Format.WEBP, Format.AVIF})

# File name endings and the spellings that URL grammars use.
EXTENSIONS: dict[str, Format] = {
    "jpg": Format.JPEG,
    "jpeg": Format.JPEG,
    "jpe": Format.JPEG,
    "png": Format.PNG,
    "webp": Format.WEBP,
    "avif": Format.AVIF,
    "gif": Format.GIF,
}

# Endings of what is only read; no URL can ask for such a picture.
INPUT_EXTENSIONS: dict[str, InputOnly] = {
    "tif": InputOnly.TIFF,
    "tiff": InputOnly.TIFF,
    "jp2": InputOnly.JPEG2000,
}

# Enough of a file's first bytes for sniff() to decide.
SNIFF_BYTES = 32

_AVIF_BRANDS = (b"avif", b"avis")


def parse_source_format(name: str) -> SourceFormat:
    """Raises ValueError for a name that is no format's."""
    try:
        return Format(name)
    except ValueError:
        return InputOnly(name)


def outputs_of(source: SourceFormat) -> tuple[Format, ...]:
    """What a derivative of a source may be when the request names no format."""
    return (source,) if isinstance(source, Format) else STAND_INS


def sniff(head: bytes) -> SourceFormat | None:
    """The format that the first SNIFF_BYTES of a file announce, None when none of ours."""
    if head.startswith(b"\xff\xd8\xff"):
        return Format.JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Format.PNG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Format.GIF
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Format.WEBP
    # ISO/IEC 14496-12 section 4.3: a 'ftyp' box with a major brand and compatible brands.
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[i : i + 4] for i in range(16, len(head) - 3, 4))]
        if any(brand in _AVIF_BRANDS for brand in brands):
            return Format.AVIF
    # TIFF 6.0 section 2. BigTIFF (43) is for files that we would not read for their size.
    if head.startswith((b"II*\0", b"MM\0*")):
        return InputOnly.TIFF
    # ISO/IEC 15444-1: the signature box of a file (annex I), or SOC and SIZ of a bare codestream.
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return InputOnly.JPEG2000
    return None
