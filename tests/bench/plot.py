"""Bars of paired ratios with the range of the rounds, drawn with Pillow.

The axis is logarithmic, so twice as dear and half as dear are equally long; bars begin at 1.0,
where both servers are equal. It draws what it is given and measures nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFont

from tests.bench.stats import Spread

SCALE = 2  # drawn twice as large as designed: sharp on dense screens
WIDTH = 1000
MARGIN = 28
LABELS = 170  # the column of the rows' names
NUMBERS = 150  # the column of the values
BAR = 15
BAR_GAP = 3
ROW_GAP = 13
PANEL_HEAD = 58
PANEL_FOOT = 16
TITLE_HEIGHT = 96

INK = "#1d2430"
FAINT = "#5d6878"
GRID = "#dfe4ea"
PAPER = "#ffffff"
STRIPE = "#f6f8fa"
COLOURS = (
    "#2f6db5",
    "#e08214",
    "#8a919c",
    "#5aa469",
    "#8e4a9e",
)  # told apart in grey and by most eyes
TICKS = (
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.3,
    0.5,
    0.7,
    0.8,
    0.9,
    1.0,
    1.1,
    1.25,
    1.5,
    2,
    3,
    5,
    10,
    20,
    50,
)
TICK_ROOM = 46  # nearer ones would touch
LEAST_REACH = math.log(1.25)  # a run of equals must not look like a drama


@dataclass(frozen=True, slots=True)
class Row:
    """A case: its label, and the ratio to each peer that it has one for."""

    label: str
    ratios: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    less: str  # what a bar to the left means
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps a ratio to a place between left and right; low < 1 < high."""

    low: float
    high: float
    left: float
    right: float

    def place(self, ratio: float) -> float:
        clipped = min(max(ratio, self.low), self.high)
        share = math.log(clipped / self.low) / math.log(self.high / self.low)
        return self.left + share * (self.right - self.left)

    def ticks(self) -> list[float]:
        """Round ratios on the axis, 1.0 always, none so near another that labels touch."""
        inside = [tick for tick in TICKS if self.low <= tick <= self.high]
        kept = [1.0]
        for tick in sorted(inside, key=lambda tick: abs(math.log(tick))):
            if all(abs(self.place(tick) - self.place(other)) >= TICK_ROOM for other in kept):
                kept.append(tick)
        return sorted(kept)


def axis_of(rows: Sequence[Row], left: float, right: float) -> Axis:
    """Reaches a little past the widest whisker on each side of 1.0."""
    ends = [math.log(end) for row in rows for s in row.ratios.values() for end in (s.low, s.high)]
    down = min([-LEAST_REACH, *ends]) - 0.05
    up = max([LEAST_REACH, *ends]) + 0.05
    return Axis(max(math.exp(down), 0.01), min(math.exp(up), 60.0), left, right)


def row_height(row: Row) -> int:
    return len(row.ratios) * (BAR + BAR_GAP) - BAR_GAP + ROW_GAP


def panel_height(panel: Panel) -> int:
    return PANEL_HEAD + sum(map(row_height, panel.rows)) + PANEL_FOOT


def draw(title: str, subtitle: str, peers: Sequence[str], panels: Sequence[Panel]) -> Image.Image:
    """The whole picture. Rows without ratios and panels without rows are left out."""
    filled = [replace(panel, rows=[row for row in panel.rows if row.ratios]) for panel in panels]
    shown = [panel for panel in filled if panel.rows]
    height = TITLE_HEIGHT + sum(map(panel_height, shown)) + MARGIN
    sheet = Sheet(height)
    sheet.text(MARGIN, 24, title, 23, INK)
    sheet.text(MARGIN, 56, subtitle, 13, FAINT)
    colours = dict(zip(peers, COLOURS, strict=False))
    sheet.legend(colours)
    top = TITLE_HEIGHT
    for panel in shown:
        _draw_panel(sheet, panel, colours, top)
        top += panel_height(panel)
    return sheet.image


def _draw_panel(sheet: "Sheet", panel: Panel, colours: Mapping[str, str], top: int) -> None:
    axis = axis_of(panel.rows, MARGIN + LABELS, WIDTH - MARGIN - NUMBERS)
    end = sheet.text(MARGIN, top + 6, panel.title, 16, INK)
    sheet.text(end + 12, top + 9, f"left of 1.0: {panel.less}", 12, FAINT)
    body = top + PANEL_HEAD
    bottom = body + sum(map(row_height, panel.rows))
    y = body
    for index, row in enumerate(panel.rows):
        if index % 2 == 0:
            sheet.box(MARGIN, y, WIDTH - MARGIN, y + row_height(row), STRIPE)
        y += row_height(row)
    for tick in axis.ticks():
        x = axis.place(tick)
        sheet.line(x, body, x, bottom, GRID, 1)
        sheet.text(x, top + 36, f"{tick:g}" if tick != 1 else "1.0", 12, FAINT, "ma")
    y = body
    for row in panel.rows:
        middle = y + row_height(row) / 2
        sheet.text(MARGIN + 8, middle, row.label, 14, INK, "lm")
        bar_top = y + ROW_GAP / 2
        for peer, ratio in row.ratios.items():
            _draw_bar(sheet, axis, ratio, bar_top, colours[peer])
            bar_top += BAR + BAR_GAP
        y += row_height(row)
    one = axis.place(1.0)
    sheet.line(one, body - 4, one, bottom, INK, 2)


def _draw_bar(sheet: "Sheet", axis: Axis, ratio: Spread, top: float, colour: str) -> None:
    one, end = axis.place(1.0), axis.place(ratio.median)
    sheet.box(min(one, end), top, max(one, end), top + BAR, colour)
    middle = top + BAR / 2
    low, high = axis.place(ratio.low), axis.place(ratio.high)
    sheet.line(low, middle, high, middle, INK, 1)
    for x in (low, high):
        sheet.line(x, middle - 4, x, middle + 4, INK, 1)
    numbers = WIDTH - MARGIN - NUMBERS + 14
    sheet.text(numbers, middle, short(ratio.median), 13, INK, "lm")
    sheet.text(numbers + 44, middle, f"{short(ratio.low)} to {short(ratio.high)}", 11, FAINT, "lm")


def short(ratio: float) -> str:
    """Three digits that mean something."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}" if ratio < 100 else f"{ratio:.0f}"


class Sheet:
    """A white page in design units; the scale is applied here alone."""

    def __init__(self, height: int) -> None:
        self.image = Image.new("RGB", (WIDTH * SCALE, height * SCALE), PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def text(
        self, x: float, y: float, text: str, size: int, colour: str, anchor: str = "la"
    ) -> float:
        """Returns where the text ends."""
        font = ImageFont.load_default(size * SCALE)
        self._draw.text((x * SCALE, y * SCALE), text, fill=colour, font=font, anchor=anchor)
        return x + self._draw.textlength(text, font=font) / SCALE

    def box(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        edges = (left * SCALE, top * SCALE, right * SCALE - 1, bottom * SCALE - 1)
        if edges[2] >= edges[0]:
            self._draw.rectangle(edges, fill=colour)

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: str, width: int) -> None:
        ends = (x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE)
        self._draw.line(ends, fill=colour, width=width * SCALE)

    def legend(self, colours: Mapping[str, str]) -> None:
        x: float = MARGIN
        for name, colour in colours.items():
            self.box(x, 78, x + 12, 90, colour)
            x = self.text(x + 18, 84, f"to {name}", 13, INK, "lm") + 24
