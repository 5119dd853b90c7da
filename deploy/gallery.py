"""Make a folder of sample pictures: python deploy/gallery.py FOLDER

    chart.jpg         4000 x 3000   test chart: zone plate, line pairs, colour bars, ramps
    landscape.jpg     3600 x 2400   looks like a photograph: detail, gradients, grain
    orientation6.jpg  2000 x 1500   stored lying, EXIF orientation 6: upright it is 1500 x 2000
    transparent.png   1200 x 900    alpha from 0 to 255, hard edges and soft ones
    animated.gif       480 x 360    sixteen frames that loop

Drawn, not photographed: nobody's rights, no download. The same bytes on every run of the same
Pillow, for every random number is seeded. Files that exist are left alone.
"""

import argparse
import itertools
import math
import os
import random
from collections.abc import Callable, Sequence

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont

Colour = tuple[int, int, int]
Stops = Sequence[tuple[float, Colour]]

BILINEAR = Image.Resampling.BILINEAR
BICUBIC = Image.Resampling.BICUBIC


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """share 0 is one, 1 is other."""
    r, g, b = (round(a + (c - a) * share) for a, c in zip(one, other, strict=True))
    return r, g, b


def vertical(size: tuple[int, int], stops: Stops) -> Image.Image:
    """A gradient from top (0.0) to bottom (1.0) through stops."""
    column = Image.new("RGB", (1, size[1]))
    for y in range(size[1]):
        at = y / max(size[1] - 1, 1)
        (low, first), (high, second) = stops[0], stops[-1]
        for (a, one), (b, other) in itertools.pairwise(stops):
            if a <= at <= b:
                (low, first), (high, second) = (a, one), (b, other)
                break
        column.putpixel((0, y), mix(first, second, (at - low) / (high - low)))
    return column.resize(size, Image.Resampling.NEAREST)


def noise(
    rng: random.Random, size: tuple[int, int], cells: tuple[int, int], octaves: int
) -> Image.Image:
    """Fractal noise around 128: each octave has twice the cells and half the weight."""
    total = Image.new("L", size, 128)
    for octave in range(octaves):
        grid = (cells[0] << octave, cells[1] << octave)
        layer = Image.frombytes("L", grid, rng.randbytes(grid[0] * grid[1])).resize(size, BICUBIC)
        gain = 0.9 * 0.55**octave
        layer = layer.point(
            [round(max(-127, min(127, (v - 128) * gain))) + 128 for v in range(256)]
        )
        total = ImageChops.add(total, layer, 1, -128)
    return total


def curve(low: int, high: int, top: int = 255) -> list[int]:
    """A lookup table that rises smoothly from 0 at low to top at high."""
    steps = (min(1.0, max(0.0, (v - low) / (high - low))) for v in range(256))
    return [round(top * t * t * (3 - 2 * t)) for t in steps]


def moved(image: Image.Image, dx: int, dy: int) -> Image.Image:
    """image shifted; what comes in at the sides is image unshifted, so a difference is 0 there."""
    copy = image.copy()
    copy.paste(image, (dx, dy))
    return copy


def glow(size: tuple[int, int], centre: tuple[float, float], radius: float) -> Image.Image:
    """A mask: 255 at centre, falling to 0 at radius."""
    disc = ImageChops.invert(Image.radial_gradient("L")).point(curve(75, 255))
    # Pillow's gradient reaches 0 at the corners; 75 is what it has at the middle of a side.
    edge = max(2, round(radius * 2))
    mask = Image.new("L", size)
    mask.paste(
        disc.resize((edge, edge), BILINEAR), (round(centre[0] - radius), round(centre[1] - radius))
    )
    return mask


def ridge(rng: random.Random, points: int, roughness: float) -> list[float]:
    """Heights from -1 to 1 by midpoint displacement; points is a power of two."""
    line = [0.0] * (points + 1)
    line[0], line[-1] = rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4)
    step, swing = points, 1.0
    while step > 1:
        for left in range(0, points, step):
            middle = (line[left] + line[left + step]) / 2
            line[left + step // 2] = middle + rng.uniform(-swing, swing)
        step, swing = step // 2, swing * roughness
    peak = max(map(abs, line))
    return [height / peak for height in line]


# ---- landscape -----------------------------------------------------------------------------------

HORIZON = 0.66  # where the lake meets its far shore
SUN = (0.745, 0.392)
HAZE: Colour = (236, 178, 150)
SKY: Stops = (
    (0.00, (30, 52, 104)),
    (0.22, (70, 96, 152)),
    (0.40, (150, 142, 176)),
    (0.52, (234, 174, 148)),
    (0.62, (255, 214, 150)),
    (0.66, (255, 226, 170)),
    (1.00, (255, 226, 170)),
)
# Far to near: base line and height of the ridge as shares of the picture, roughness, haze, seed.
RANGES = (
    (0.520, 0.150, 0.56, 0.66, 11),
    (0.560, 0.120, 0.54, 0.50, 23),
    (0.600, 0.085, 0.52, 0.30, 5),
    (0.635, 0.055, 0.50, 0.14, 42),
)


def landscape(scale: float) -> Image.Image:
    """A mountain lake a little after sunrise."""
    rng = random.Random(1)
    size = (round(3600 * scale), round(2400 * scale))
    picture = sky(rng, size)
    for number, (base, height, roughness, haze, seed) in enumerate(RANGES):
        mountains(random.Random(seed), picture, base, height, roughness, haze, is_snowy=number < 2)
    forest(rng, picture)
    lake(rng, picture)
    foreground(rng, picture)
    return grain(rng, picture)


def sky(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    width, height = size
    picture = vertical(size, SKY)
    sun = (SUN[0] * width, SUN[1] * height)
    for radius, colour, strength in (
        (0.50, (255, 178, 140), 120),
        (0.22, (255, 214, 160), 170),
        (0.075, (255, 244, 210), 220),
    ):
        halo = glow(size, sun, radius * width).point([v * strength // 255 for v in range(256)])
        picture.paste(colour, (0, 0), halo)
    # Two banks of clouds, wide and flat, thin out upwards and catch the light from below.
    small = (width // 4, height // 4)
    upward = vertical(
        small, ((0, (150, 150, 150)), (0.3, (235, 235, 235)), (0.56, (60, 60, 60)), (1, (0, 0, 0)))
    )
    fade = upward.convert("L")
    for cells, low, high, colour, shade in (
        ((3, 9), 128, 205, (255, 200, 172), (112, 104, 146)),
        ((5, 22), 138, 215, (255, 226, 196), (190, 150, 164)),
    ):
        bank = noise(rng, small, cells, 5)
        body = ImageChops.multiply(bank.point(curve(low, high, 235)), fade)
        # The side away from the light: what the same cloud, moved up, does not cover.
        lift = max(1, small[1] // 40)
        under = ImageChops.subtract(body, moved(body, 0, -lift)).point(curve(0, 90))
        cloud = Image.composite(
            Image.new("RGB", small, colour), Image.new("RGB", small, shade), under
        )
        picture.paste(cloud.resize(size, BICUBIC), (0, 0), body.resize(size, BICUBIC))
    radius = 0.0125 * width
    draw_disc = glow(size, sun, radius * 2.2).point(curve(90, 190))
    picture.paste((255, 253, 240), (0, 0), draw_disc)
    return picture


def mountains(
    rng: random.Random,
    picture: Image.Image,
    base: float,
    height: float,
    roughness: float,
    haze: float,
    *,
    is_snowy: bool,
) -> None:
    width, full = picture.size
    heights = ridge(rng, 512, roughness)
    top = [(x * width / 512, (base - height * h) * full) for x, h in enumerate(heights)]
    crest = round(min(y for _, y in top))
    foot = round(HORIZON * full) + 1
    box = (width, foot - crest)
    mask = Image.new("L", box)
    outline = [(x, y - crest) for x, y in top]
    ImageDraw.Draw(mask).polygon([(0, box[1]), *outline, (width, box[1])], fill=255)

    # Relief: how the height of the ground changes towards the sun, lit from the upper right.
    half = (box[0] // 2, max(1, box[1] // 2))
    ground = noise(rng, half, (14, max(2, round(14 * half[1] / half[0] * 0.8))), 6)
    step = max(1, width // 900)
    relief = ImageChops.subtract(ground, moved(ground, step, -step), 0.22, 128)
    rock, light = (52, 60, 84), (214, 152, 124)
    dark = mix((22, 34, 46), rock, haze)
    lit = Image.composite(
        Image.new("RGB", half, mix(dark, light, 0.75)),
        Image.new("RGB", half, dark),
        relief.point(curve(96, 215)),
    )
    if is_snowy:
        # Snow lies high, on what is not too steep: thicker towards the crest, broken by rock.
        high = vertical(
            half, ((0, (255, 255, 255)), (0.34, (150, 150, 150)), (0.62, (0, 0, 0)), (1, (0, 0, 0)))
        )
        cover = ImageChops.add(high.convert("L"), ground, 1.0, -150)
        snow = Image.composite(
            Image.new("RGB", half, (255, 226, 208)),
            Image.new("RGB", half, (128, 136, 178)),
            relief.point(curve(88, 170)),
        )
        lit.paste(snow, (0, 0), cover.point(curve(40, 105, 240)))
    # Air between: the whole layer takes the haze, its foot most of it.
    air = vertical(half, ((0, (0, 0, 0)), (0.45, (40, 40, 40)), (1, (215, 215, 215)))).convert("L")
    lit = Image.blend(lit, Image.new("RGB", half, HAZE), haze * 0.62)
    lit.paste(HAZE, (0, 0), air.point([round(v * (0.35 + 0.65 * haze)) for v in range(256)]))
    picture.paste(lit.resize(box, BICUBIC), (0, crest), mask)


def conifer(
    rng: random.Random,
    draw: ImageDraw.ImageDraw,
    x: float,
    foot: float,
    height: float,
    fill: Colour | int,
) -> None:
    """One tree: a trunk and tiers of drooping branches, each a thin triangle."""
    tiers = max(6, min(90, round(height / 9)))
    spread = height * rng.uniform(0.17, 0.23)
    trunk = max(1.0, height * 0.012)
    draw.polygon([(x - trunk, foot), (x, foot - height), (x + trunk, foot)], fill=fill)
    for tier in range(tiers):
        share = (tier + 0.6) / tiers
        y = foot - height * (1 - share * 0.93)
        thick = height / tiers * 1.5
        for side in (-1, 1):
            reach = spread * share**0.85 * rng.uniform(0.55, 1.12) * side
            droop = abs(reach) * rng.uniform(0.15, 0.5)
            draw.polygon(
                [
                    (x, y - thick * 0.8),
                    (x + reach, y + droop),
                    (x + reach * 0.45, y + thick * 0.42),
                    (x, y + thick * 0.55),
                ],
                fill=fill,
            )


def forest(rng: random.Random, picture: Image.Image) -> None:
    """The far shore: rows of small trees, the nearer the darker, mist between them."""
    width, full = picture.size
    shore = HORIZON * full
    for row, (lift, tall, colour) in enumerate(
        (
            (0.018, 0.034, (104, 98, 110)),
            (0.008, 0.040, (62, 66, 80)),
            (0.000, 0.046, (26, 36, 46)),
        )
    ):
        hills = ridge(rng, 64, 0.5)
        layer = Image.new("L", (width, round(full * 0.16)))
        draw = ImageDraw.Draw(layer)
        bottom = layer.size[1]
        x = -0.01 * width
        while x < width * 1.01:
            place = min(63, max(0, int(x / width * 64)))
            rise = (hills[place] * 0.5 + 0.5) * 0.022 * full
            foot = bottom - lift * full - rise
            height = tall * full * rng.uniform(0.55, 1.15)
            conifer(rng, draw, x, foot + height * 0.2, height, 255)
            draw.rectangle((x - height * 0.2, foot, x + height * 0.2, bottom), fill=255)
            x += width * rng.uniform(0.004, 0.009) * (1.2 - row * 0.15)
        tint = vertical(
            layer.size, ((0, colour), (0.6, colour), (1, mix(colour, HAZE, 0.35 - row * 0.1)))
        )
        picture.paste(tint, (0, round(shore) - bottom), layer)


def lake(rng: random.Random, picture: Image.Image) -> None:
    width, full = picture.size
    shore = round(HORIZON * full)
    depth = full - shore
    above = picture.crop((0, shore - depth, width, shore)).transpose(
        Image.Transpose.FLIP_TOP_BOTTOM
    )
    # Water smears what it mirrors downwards, and takes some of its light.
    above = above.resize((width // 2, max(1, depth // 5)), Image.Resampling.BOX).resize(
        (width, depth), BICUBIC
    )
    above = ImageEnhance.Brightness(above).enhance(0.82)
    deep = vertical((width, depth), ((0, (70, 80, 104)), (1, (14, 26, 48))))
    mask = vertical((width, depth), ((0, (30, 30, 30)), (1, (170, 170, 170)))).convert("L")
    water = Image.composite(deep, above, mask)
    # Ripples: every row is shifted, the nearer the more; light and dark threads run along them.
    rippled = Image.new("RGB", (width, depth))
    phase = 0.0
    thick = max(1, depth // 400)
    for y in range(0, depth, thick):
        near = y / depth
        phase += 1.9 - 1.5 * near
        shift = round(
            (math.sin(phase) * 0.6 + rng.uniform(-0.4, 0.4)) * (0.0015 + 0.006 * near) * width
        )
        row = water.crop((0, y, width, min(depth, y + thick)))
        rippled.paste(row, (shift, y))
        if shift:
            rippled.paste(
                row.crop((width - shift, 0, width, thick) if shift > 0 else (0, 0, -shift, thick)),
                (0 if shift > 0 else width + shift, y),
            )
    threads = noise(rng, (width // 2, depth // 2), (10, 60), 3).resize((width, depth), BILINEAR)
    rippled.paste((244, 196, 168), (0, 0), threads.point(curve(150, 240, 90)))
    rippled.paste((12, 24, 44), (0, 0), ImageChops.invert(threads).point(curve(140, 235, 110)))
    glitter(rng, rippled)
    picture.paste(rippled, (0, shore))
    mist = vertical(
        (width, round(0.05 * full)), ((0, (0, 0, 0)), (0.5, (150, 150, 150)), (1, (0, 0, 0)))
    ).convert("L")
    patches = noise(rng, (width // 8, mist.size[1] // 8 + 1), (6, 2), 4).resize(mist.size, BICUBIC)
    picture.paste(
        (250, 208, 180),
        (0, shore - round(0.028 * full)),
        ImageChops.multiply(mist, patches.point(curve(60, 200))),
    )


def glitter(rng: random.Random, water: Image.Image) -> None:
    """The sun's path: short dashes that widen towards us."""
    width, depth = water.size
    layer = Image.new("L", water.size)
    draw = ImageDraw.Draw(layer)
    for _ in range(1500):
        near = rng.random() ** 1.3
        spread = (0.012 + 0.05 * near) * width
        x = SUN[0] * width + rng.gauss(0, spread)
        long = (0.002 + 0.012 * near * rng.random()) * width
        thick = max(1, round((0.004 + 0.009 * near) * depth * rng.uniform(0.3, 0.9)))
        fade = math.exp(-(((x - SUN[0] * width) / (spread * 1.6)) ** 2))
        y = near * depth
        draw.ellipse(
            (x - long, y - thick / 2, x + long, y + thick / 2),
            fill=round(235 * fade * (1 - 0.45 * near)),
        )
    water.paste((255, 226, 170), (0, 0), layer.filter(ImageFilter.BoxBlur(max(0.5, width / 3000))))


def foreground(rng: random.Random, picture: Image.Image) -> None:
    """Two dark banks with tall trees and grass: they frame the view and give it depth."""
    width, full = picture.size
    dark: Colour = (10, 16, 20)
    draw = ImageDraw.Draw(picture)
    for side, reach in ((0, 0.44), (1, 0.30)):
        bank = ridge(rng, 64, 0.5)
        points = []
        for n, bump in enumerate(bank):
            share = n / 64
            x = share * reach * width
            y = full * (0.90 + 0.115 * share**1.6 + 0.006 * bump)
            points.append((x if side == 0 else width - x, y))
        trees = (
            ((0.015, 0.66), (0.062, 0.47), (0.105, 0.56), (0.155, 0.30), (0.20, 0.18))
            if side == 0
            else ((0.01, 0.40), (0.05, 0.56), (0.098, 0.27))
        )
        for at, tall in trees:
            x = at * width if side == 0 else (1 - at) * width
            foot = full * (0.915 + 0.05 * at / 0.2)
            tone = mix(dark, (30, 38, 36), rng.random())
            conifer(rng, draw, x, foot, tall * full, tone)
        draw.polygon([*points, (points[-1][0], full + 1), (points[0][0], full + 1)], fill=dark)
        for _ in range(1400):  # blades of grass along the edge
            at = rng.random()
            x, y = points[min(64, int(at * 65))]
            x += rng.uniform(-0.006, 0.006) * width
            tall = full * rng.uniform(0.006, 0.026) * (1.1 - at)
            lean = tall * rng.uniform(-0.5, 0.6)
            tone = mix(dark, (92, 74, 50), rng.random() ** 3)
            draw.line(
                (x, y + tall * 0.6, x + lean, y - tall), fill=tone, width=max(1, width // 1800)
            )


def grain(rng: random.Random, picture: Image.Image) -> Image.Image:
    """What a sensor adds: noise of a few steps. One tile is repeated, too weak to show."""
    tile = (512, 512)
    speck = Image.frombytes("L", tile, rng.randbytes(tile[0] * tile[1]))
    speck = speck.filter(ImageFilter.BoxBlur(0.6)).point(
        [120 + round((v - 128) * 0.08) + 8 for v in range(256)]
    )
    sheet = Image.new("L", picture.size)
    for x in range(0, picture.size[0], tile[0]):
        for y in range(0, picture.size[1], tile[1]):
            sheet.paste(speck, (x, y))
    return ImageChops.add(picture, Image.merge("RGB", (sheet, sheet, sheet)), 1, -128)


# ---- chart ---------------------------------------------------------------------------------------


def chart(scale: float) -> Image.Image:
    """Everything that a resize can get wrong: aliasing, ringing, colour, gamma, geometry."""
    width, height = round(4000 * scale), round(3000 * scale)
    unit = 100 * scale
    picture = Image.new("RGB", (width, height), (112, 112, 112))
    draw = ImageDraw.Draw(picture)

    def box(x: float, y: float, w: float, h: float) -> tuple[int, int, int, int]:
        """In units of a grid square, as Pillow's inclusive rectangle."""
        return (
            round(x * unit),
            round(y * unit),
            round((x + w) * unit) - 1,
            round((y + h) * unit) - 1,
        )

    line = max(1, round(4 * scale))
    for n in range(41):
        draw.line((n * unit, 0, n * unit, height), fill=(150, 150, 150), width=line)
    for n in range(31):
        draw.line((0, n * unit, width, n * unit), fill=(150, 150, 150), width=line)
    for n in range(40):  # a border of blocks shows a crop at once
        tone = (245, 245, 245) if n % 2 else (16, 16, 16)
        draw.rectangle(box(n, 0, 1, 0.5), fill=tone)
        draw.rectangle(box(39 - n, 29.5, 1, 0.5), fill=tone)
    for n in range(30):
        tone = (245, 245, 245) if n % 2 else (16, 16, 16)
        draw.rectangle(box(0, n, 0.5, 1), fill=tone)
        draw.rectangle(box(39.5, 29 - n, 0.5, 1), fill=tone)

    bars = (
        (191, 191, 191),
        (191, 191, 0),
        (0, 191, 191),
        (0, 191, 0),
        (191, 0, 191),
        (191, 0, 0),
        (0, 0, 191),
    )
    for n, colour in enumerate(bars):
        draw.rectangle(box(6 + n * 4, 2, 4, 4), fill=colour)
    for n in range(14):
        draw.rectangle(box(6 + n * 2, 6, 2, 1.5), fill=(round(n * 255 / 13),) * 3)
    for n, end in enumerate(((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))):
        x0, y0, x1, y1 = box(6, 22.5 + n, 28, 1)
        ramp = vertical((y1 - y0 + 1, x1 - x0 + 1), ((0, end), (1, (0, 0, 0)))).transpose(
            Image.Transpose.ROTATE_90
        )
        picture.paste(ramp, (x0, y0))

    plate = zone_plate(round(13 * unit))
    picture.paste(
        plate, (round(20 * unit) - plate.size[0] // 2, round(15 * unit) - plate.size[1] // 2)
    )
    for x, y in ((3.5, 3.5), (36.5, 3.5), (3.5, 26.5), (36.5, 26.5)):
        siemens_star(picture, (x * unit, y * unit), 2.4 * unit)
    for row, pitch in enumerate((2, 3, 4, 6, 8, 12)):  # line pairs, one pixel and up
        step = max(1, round(pitch * scale))
        for x, is_upright in ((7.0, True), (10.0, False)):
            left, top, right, bottom = box(x, 9 + row * 2, 2.6, 1.6)
            draw.rectangle((left, top, right, bottom), fill=(255, 255, 255))
            for at in range(
                left if is_upright else top, (right if is_upright else bottom) + 1, step
            ):
                far = at + max(1, step // 2) - 1
                draw.rectangle(
                    (at, top, far, bottom) if is_upright else (left, at, right, far), fill=(0, 0, 0)
                )
    patches = (
        (115, 82, 68), (194, 150, 130), (98, 122, 157), (87, 108, 67), (133, 128, 177),
        (103, 189, 170), (214, 126, 44), (80, 91, 166), (193, 90, 99), (94, 60, 108),
        (157, 188, 64), (224, 163, 46), (56, 61, 150), (70, 148, 73), (175, 54, 60),
        (231, 199, 31), (187, 86, 149), (8, 133, 161),
    )  # fmt: skip
    for n, colour in enumerate(patches):  # skin, foliage, sky and primaries, in sRGB
        draw.rectangle(box(27.5 + n % 3 * 2, 9 + n // 3 * 2, 1.8, 1.8), fill=colour)
    for radius in (14.2, 7.0):
        draw.ellipse(
            tuple(at * unit for at in (20 - radius, 15 - radius, 20 + radius, 15 + radius)),
            outline=(245, 245, 245), width=max(1, round(8 * scale)),
        )  # fmt: skip
    label(picture, "HALFTONE  4000 x 3000", (20 * unit, 27.6 * unit), 0.85 * unit, (250, 250, 250))
    return picture


def zone_plate(edge: int) -> Image.Image:
    """cos(r^2), flat in the middle, the finest lines at the sides: aliasing shows as rings."""
    half = (edge + 1) // 2
    # Phase 2 pi r^2 / period; its slope 4 pi r / period is pi a pixel, the finest, at r = half.
    period = 4 * half
    table = [round(127.5 + 127.5 * math.cos(2 * math.pi * n / period)) for n in range(period)]
    squares = [n * n for n in range(half)]
    corner = Image.frombytes(
        "L",
        (half, half),
        b"".join(bytes([table[(a + b) % period] for a in squares]) for b in squares),
    )
    plate = Image.new("L", (2 * half, 2 * half))
    left = corner.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    plate.paste(corner, (half, half))
    plate.paste(left, (0, half))
    plate.paste(corner.transpose(Image.Transpose.FLIP_TOP_BOTTOM), (half, 0))
    plate.paste(left.transpose(Image.Transpose.FLIP_TOP_BOTTOM), (0, 0))
    return plate


def siemens_star(picture: Image.Image, centre: tuple[float, float], radius: float) -> None:
    draw = ImageDraw.Draw(picture)
    frame = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
    draw.ellipse(frame, fill=(255, 255, 255))
    for n in range(36):
        draw.pieslice(frame, n * 10, n * 10 + 5, fill=(0, 0, 0))


def label(
    picture: Image.Image, text: str, centre: tuple[float, float], size: float, fill: Colour
) -> None:
    font = ImageFont.load_default(max(8, size))
    ImageDraw.Draw(picture).text(centre, text, font=font, fill=fill, anchor="mm")


# ---- orientation, alpha, animation ---------------------------------------------------------------


def upright(scale: float) -> Image.Image:
    """1500 x 2000, and no doubt about where up is."""
    width, height = round(1500 * scale), round(2000 * scale)
    picture = vertical(
        (width, height),
        (
            (0, (28, 92, 168)),
            (0.55, (150, 206, 235)),
            (0.78, (250, 236, 200)),
            (1, (250, 236, 200)),
        ),
    )
    picture.paste(
        (255, 246, 200), (0, 0), glow(picture.size, (0.8 * width, 0.16 * height), 0.4 * width)
    )
    rng = random.Random(6)
    for base, tall, colour in (
        (0.80, 0.05, (120, 164, 120)),
        (0.86, 0.04, (82, 132, 84)),
        (0.93, 0.03, (46, 96, 62)),
    ):
        hills = ridge(rng, 128, 0.42)
        line = [(x * width / 128, (base - tall * h) * height) for x, h in enumerate(hills)]
        ImageDraw.Draw(picture).polygon([(0, height), *line, (width, height)], fill=colour)
    centre, tip = 0.5 * width, 0.13 * height
    arrow = [
        (0.5, 0.0),
        (0.80, 0.26),
        (0.615, 0.26),
        (0.615, 0.62),
        (0.385, 0.62),
        (0.385, 0.26),
        (0.20, 0.26),
    ]
    shape = [(centre + (x - 0.5) * width, tip + y * height) for x, y in arrow]
    shadow = Image.new("L", picture.size)
    drop = 0.014 * width
    ImageDraw.Draw(shadow).polygon([(x + drop, y + drop) for x, y in shape], fill=150)
    picture.paste((20, 40, 70), (0, 0), shadow.filter(ImageFilter.GaussianBlur(max(1, drop))))
    draw = ImageDraw.Draw(picture)
    draw.polygon(shape, fill=(226, 58, 46))
    draw.line(
        [*shape, shape[0]], fill=(255, 255, 255), width=max(1, round(0.012 * width)), joint="curve"
    )
    label(picture, "UP", (centre, 0.5 * height), 0.15 * width, (255, 255, 255))
    for text, x, y in (
        ("top left", 0.16, 0.035),
        ("top right", 0.84, 0.035),
        ("bottom left", 0.18, 0.965),
        ("bottom right", 0.82, 0.965),
    ):
        label(picture, text, (x * width, y * height), 0.045 * width, (255, 255, 255))
    return picture


def transparent(scale: float) -> Image.Image:
    """Three inks that overlap, a soft shadow, a glass ring, a ramp from clear to solid."""
    width, height = round(1200 * scale), round(900 * scale)
    size = (width, height)
    picture = Image.new("RGBA", size)

    def lay(colour: Colour, mask: Image.Image) -> None:
        layer = Image.new("RGBA", size, (*colour, 0))
        layer.putalpha(mask)
        picture.alpha_composite(layer)

    def disc(x: float, y: float, radius: float, alpha: int, inner: float = 0.0) -> Image.Image:
        # Drawn at four times the size: Pillow's shapes have hard edges.
        small = (width * 2, height * 2)
        mask = Image.new("L", small)
        draw = ImageDraw.Draw(mask)
        for r, fill in ((radius, alpha), (inner, 0)):
            if r:
                draw.ellipse(
                    (
                        (x - r) * small[0],
                        y * small[1] - r * small[0],
                        (x + r) * small[0],
                        y * small[1] + r * small[0],
                    ),
                    fill=fill,
                )
        return mask.resize(size, BICUBIC)

    inks = (((0, 158, 224), 0.37, 0.36), ((228, 0, 124), 0.63, 0.36), ((255, 221, 0), 0.50, 0.60))
    for _, x, y in inks:
        lay(
            (10, 14, 30),
            disc(x + 0.012, y + 0.03, 0.215, 90).filter(ImageFilter.GaussianBlur(18 * scale)),
        )
    for colour, x, y in inks:
        solid = disc(x, y, 0.215, 205)
        shine = glow(size, ((x - 0.08) * width, y * height - 0.09 * width), 0.2 * width)
        lay(colour, solid)
        lay(
            (255, 255, 255),
            ImageChops.multiply(shine.point([v * 150 // 255 for v in range(256)]), solid),
        )
    lay((255, 255, 255), disc(0.5, 0.455, 0.318, 190, 0.302))
    ramp = (
        Image.linear_gradient("L")
        .transpose(Image.Transpose.ROTATE_90)
        .resize((round(0.8 * width), round(0.06 * height)))
    )
    strip = Image.new("L", size)
    strip.paste(ramp, (round(0.1 * width), round(0.92 * height) - ramp.size[1] // 2))
    lay((32, 36, 52), strip)
    return picture


FRAMES = 16


def animation(scale: float) -> list[Image.Image]:
    """A halftone screen in which the dots breathe: a wave runs through the grid once in a loop."""
    width, height = round(480 * scale), round(360 * scale)
    paper, ink, accent = (250, 244, 230), (24, 32, 58), (226, 58, 46)
    # One palette for all frames, with steps between for smooth edges: small, no flicker.
    shades = [mix(paper, tone, n / 15) for tone in (ink, accent) for n in range(16)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for shade in shades for channel in shade])
    cell = 20 * scale
    frames = []
    for frame in range(FRAMES):
        turn = 2 * math.pi * frame / FRAMES
        big = Image.new("RGB", (width * 2, height * 2), paper)
        draw = ImageDraw.Draw(big)
        for row in range(-1, round(height / cell / 0.866) + 2):
            for column in range(-1, round(width / cell) + 2):
                x, y = (column + row % 2 * 0.5) * cell, row * cell * 0.866
                far = math.hypot(x - width / 2, y - height / 2) / (40 * scale)
                wave = 0.5 + 0.5 * math.sin(far * 1.6 - turn)
                radius = cell * (0.10 + 0.44 * wave) * 2
                tone = accent if far < 1.3 else ink
                draw.ellipse(
                    (2 * x - radius, 2 * y - radius, 2 * x + radius, 2 * y + radius), fill=tone
                )
        small = big.resize((width, height), Image.Resampling.BOX)
        frames.append(small.quantize(palette=palette, dither=Image.Dither.NONE))
    return frames


# ---- files ---------------------------------------------------------------------------------------

ORIENTATION = 0x0112  # EXIF 2.32, tag 274; 6: the row 0 is the right side of the upright picture


def write_chart(path: str, scale: float) -> None:
    chart(scale).save(path, "JPEG", quality=92, subsampling=0)


def write_landscape(path: str, scale: float) -> None:
    landscape(scale).save(path, "JPEG", quality=90, progressive=False)


def write_orientation(path: str, scale: float) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    lying = upright(scale).transpose(Image.Transpose.ROTATE_90)
    lying.save(path, "JPEG", quality=90, exif=exif)


def write_transparent(path: str, scale: float) -> None:
    transparent(scale).save(path, "PNG", compress_level=4)


def write_animation(path: str, scale: float) -> None:
    first, *rest = animation(scale)
    first.save(path, "GIF", save_all=True, append_images=rest, duration=70, loop=0, optimize=False)


PICTURES: dict[str, Callable[[str, float], None]] = {
    "chart.jpg": write_chart,
    "landscape.jpg": write_landscape,
    "orientation6.jpg": write_orientation,
    "transparent.png": write_transparent,
    "animated.gif": write_animation,
}


def make(folder: str, scale: float = 1.0) -> list[str]:
    """Write the pictures that folder lacks; their names. A picture appears whole or not at all."""
    os.makedirs(folder, exist_ok=True)
    written = []
    for name, write in PICTURES.items():
        path = os.path.join(folder, name)
        if os.path.exists(path):
            continue
        part = f"{path}.part"
        write(part, scale)
        os.replace(part, path)
        written.append(name)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a folder of sample pictures.")
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="0.1 to 1: smaller pictures, sooner"
    )
    arguments = parser.parse_args()
    if not 0.05 <= arguments.scale <= 1:
        parser.error("--scale must be 0.05 to 1")
    for name in make(arguments.folder, arguments.scale):
        print(os.path.join(arguments.folder, name))


if __name__ == "__main__":
    main()
