"""Picture formats: names, media types, magic numbers. Pure: knows no codec."""

import enum


class Format(enum.StrEnum):
    """An output (and, but for the input-only ones, input) format, by the name used in URLs."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    AVIF = "avif"
    GIF = "gif"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"


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

# Enough of a file's first bytes for sniff() to decide.
SNIFF_BYTES = 32

_AVIF_BRANDS = (b"avif", b"avis")


def sniff(head: bytes) -> Format | None:
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
    return None
