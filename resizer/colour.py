"""What the numbers of a pixel mean: modes that can be resampled, ICC profiles, transparency.

Before the resize every mode becomes L, LA, RGB, RGBA or CMYK; after it, where pixels are few, all
become sRGB: an ICC transform costs 1 ms at 320x213 and 97 ms at six megapixels, and building one
4 ms, so the built ones are kept.
"""

import hashlib
import io
from collections import OrderedDict
from typing import Final

from PIL import Image, ImageChops, ImageCms


def to_resamplable(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in L, LA, RGB, RGBA, or in CMYK where a profile will convert it later."""
    match image.mode:
        case "LA" | "RGBA":
            return image
        case "L" | "1" | "La":
            grey = "LA" if image.has_transparency_data else "L"
            return image if image.mode == grey else image.convert(grey)
        case "CMYK" if profile is not None:
            return image
        case "I" | "I;16" | "I;16B" | "I;16L":
            return _to_eight_bits(image)
        case "RGB" if not image.has_transparency_data:
            return image
        case _:
            return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode not in ("I", "I;16"):
        image = image.convert("I")
    # convert() clips 16 bits at 255 where scaling is meant; 65535 / 257 is 255.
    grey = image.point(lambda value: value * (1 / 257) + 0.5).convert("L")
    key = image.info.get("transparency")
    if not isinstance(key, int) or image.mode == "I":
        return grey
    # One value of 65536 is transparent. Seen as L and A, a pixel is its two bytes, and both match.
    halves = Image.frombytes("LA", image.size, image.tobytes())
    matches = [
        half.point([255 if value == byte else 0 for value in range(256)])
        for half, byte in zip(halves.split(), (key & 0xFF, key >> 8), strict=True)
    ]
    grey.putalpha(ImageChops.invert(ImageChops.darker(*matches)))
    return grey


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in L, LA, RGB or RGBA with the meaning that sRGB gives to its numbers.

    A profile that is broken or of another colour space than the pixels is ignored, as browsers do.
    """
    if profile is not None:
        colours = _transform_of(profile, image.mode.removesuffix("A"))
        if colours is not None:
            return _apply(colours, image)
    return image.convert("RGB") if image.mode == "CMYK" else image


def flatten(image: Image.Image, background: str, *, keep: bool) -> Image.Image:
    """The image without its transparency: where nothing is transparent, or when not to be kept."""
    if image.mode not in ("LA", "RGBA"):
        return image
    alpha = image.getchannel("A")
    opaque = image.convert(image.mode.removesuffix("A"))
    if alpha.getextrema() == (255, 255):
        return opaque
    if keep:
        return image
    ground = Image.new("RGB", image.size, f"#{background}")
    ground.paste(opaque.convert("RGB"), mask=alpha)
    return ground


def is_neutral(profile: bytes, mode: str) -> bool:
    """Whether pixels of the mode mean the same with the profile as without."""
    base = {"P": "RGB", "PA": "RGB", "1": "L", "I;16": "L"}.get(mode, mode.removesuffix("A"))
    return _transform_of(profile, base) is None


# --- ICC -----------------------------------------------------------------------------------------

_SRGB: Final = ImageCms.createProfile("sRGB")
_SPACES: Final = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}

# Building a transform costs 4 ms and a farm sees few profiles. None: leave the numbers alone.
MAX_TRANSFORMS: Final = 64
transforms: OrderedDict[tuple[bytes, str], ImageCms.ImageCmsTransform | None] = OrderedDict()


def _transform_of(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    key = (hashlib.blake2b(profile, digest_size=16).digest(), mode)
    if key in transforms:
        transforms.move_to_end(key)
        return transforms[key]
    if len(transforms) >= MAX_TRANSFORMS:
        transforms.popitem(last=False)
    transforms[key] = _build(profile, mode)
    return transforms[key]


def _build(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES[mode]:
            return None
        colours = ImageCms.buildTransform(source, _SRGB, mode, "RGB")
    # A damaged profile; the picture may still be good.
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None
    return None if _changes_nothing(colours, mode) else colours


def _changes_nothing(colours: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether the profile is sRGB, whatever it calls itself: there are dozens of spellings."""
    if mode != "RGB":
        return False
    steps = range(0, 256, 51)
    raw = bytes(value for r in steps for g in steps for b in steps for value in (r, g, b))
    probe = Image.frombytes("RGB", (len(raw) // 3, 1), raw)
    seen = _apply(colours, probe).tobytes()
    return max(abs(a - b) for a, b in zip(raw, seen, strict=True)) <= 2


def _apply(colours: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    base = image.mode.removesuffix("A")
    plain = image if alpha is None else image.convert(base)
    converted = colours.apply(plain)
    if base == "L":
        # Grey stays grey through any profile of grey; one channel weighs less.
        converted = converted.convert("L")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted
