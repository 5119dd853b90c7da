"""Rounds of renders: each picture by each contestant in turn, each under a path never asked for.

CPU is that of the contestant's whole process tree from the request until it has gone quiet, so what
a server does after its answer (storing, accounting) counts too. Time is from the request to the
last byte.
"""

import contextlib
import io
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from tests.bench import proc
from tests.bench.contestants import Contestant, NoPictureError, settled_ns, spent_ns
from tests.bench.measure import SERVER_CORE
from tests.bench.render_cases import (
    CURVE_QUALITIES,
    CURVE_WIDTHS,
    LARGE,
    PNG_WIDTH,
    SMALL,
    Asked,
    Course,
    Original,
    RenderCase,
)
from tests.bench.server import ServerError
from tests.bench.stats import Sample, rotation

QUIET_NS = 60_000  # in PAUSE_S: less is a tick of an idle process
PAUSE_S = 0.004
SETTLED_WITHIN_S = 0.15

# What a contestant may do to leave the run.
FAULTS = (NoPictureError, ServerError, OSError)


class Originals:
    """A docroot whose originals can be had under ever new names: hard links, so all stay warm."""

    def __init__(self, folder: str, photographs: Mapping[str, str]) -> None:
        self.root = f"{folder}/root"
        self.photographs = list(photographs)
        self._files = f"{folder}/originals"
        self._links = 0
        os.makedirs(self.root)
        os.makedirs(self._files)
        for name, path in photographs.items():
            shutil.copyfile(path, f"{self._files}/{name}")
            self._draw_png(name, path)
        shutil.copyfile(LARGE, f"{self._files}/large.jpg")
        shutil.copyfile(SMALL, f"{self._files}/small.jpg")

    def of(self, case: RenderCase) -> list[str]:
        """The names of a round, for fresh()."""
        match case.original:
            case Original.PHOTOGRAPH:
                return self.photographs
            case Original.PNG:
                return [_png(name) for name in self.photographs]
            case Original.LARGE:
                return ["large.jpg"]
            case Original.SMALL:
                return ["small.jpg"]

    def fresh(self, name: str) -> str:
        """A new path below the root, never asked for."""
        self._links += 1
        path = f"/{self._links:05d}-{name}"
        os.link(self.file(name), self.root + path)
        return path

    def file(self, name: str) -> str:
        return f"{self._files}/{name}"

    def _draw_png(self, name: str, path: str) -> None:
        with Image.open(path) as image:
            height = round(image.height * PNG_WIDTH / image.width)
            small = image.convert("RGB").resize((PNG_WIDTH, height), Image.Resampling.LANCZOS)
            small.save(self.file(_png(name)), compress_level=6)


def _png(name: str) -> str:
    return name.replace(".jpg", ".png")


@dataclass(frozen=True, slots=True)
class Rendered:
    """One derivative: its bytes and what they cost."""

    body: bytes
    cpu_ms: float
    wall_ms: float


@dataclass(frozen=True, slots=True)
class Output:
    """A derivative that is kept, to be compared with its reference."""

    case: str
    contestant: str
    original: str
    asked: Asked
    body: bytes


class Races:
    """All rounds. A contestant that fails leaves the case, with its reason in failures."""

    def __init__(
        self,
        originals: Originals,
        contestants: Sequence[Contestant],
        say: Callable[[str], None],
    ) -> None:
        self.failures: list[str] = []
        self.outputs: list[Output] = []
        self._originals = originals
        self._contestants = {contestant.name: contestant for contestant in contestants}
        self._say = say

    def samples(self, case: RenderCase, rounds: int) -> Iterator[Sample]:
        """A sample for each contestant and round: means over the pictures."""
        running = [name for name in case.contestants if name in self._contestants]
        self._warm(case, running)
        for number in range(rounds):
            self._say(f"{case.name}: round {number + 1} of {rounds}")
            yield from self._round(case, number, running)

    def curves(self, names: Sequence[str]) -> None:
        """JPEG at several qualities, for outputs alone."""
        for number, name in enumerate(self._originals.photographs):
            self._say(f"curves: {name}")
            for contestant in rotation(names, number):
                for width in CURVE_WIDTHS:
                    for quality in CURVE_QUALITIES:
                        asked = Asked(self._originals.fresh(name), width, quality=quality)
                        with self._blamed("curves", contestant, []):
                            body = self._contestants[contestant].ask(asked)()
                            self.outputs.append(Output("curves", contestant, name, asked, body))

    def _warm(self, case: RenderCase, running: list[str]) -> None:
        """Codecs load and allocators grow on first use; that is nobody's due."""
        for name in list(running):
            self._say(f"{case.name}: warming {name}")
            for original in self._originals.of(case)[:2]:
                path = self._originals.fresh(original)
                with self._blamed(case.name, name, running):
                    for asked in case.asked(path)[-2:]:
                        check(asked, self._contestants[name].ask(asked)())

    def _round(self, case: RenderCase, number: int, running: list[str]) -> Iterator[Sample]:
        begun = {name: spent_ns(self._contestants[name].top()) for name in running}
        began, core_before = time.monotonic(), proc.core_busy_s(SERVER_CORE)
        found: dict[str, list[Mapping[str, float]]] = {name: [] for name in running}
        for place, original in enumerate(self._originals.of(case)):
            order = _order(case, number, place)
            for name in rotation(list(running), number + place) if running else []:
                with self._blamed(case.name, name, running):
                    found[name].append(self._picture(case, name, original, order, number == 0))
        used = {name: spent_ns(self._contestants[name].top()) - begun[name] for name in running}
        busy_s = proc.core_busy_s(SERVER_CORE) - core_before
        others_s = max(0.0, busy_s - sum(used.values()) / 1e9)
        disturbed = others_s / (time.monotonic() - began)
        for name in running:
            pictures = found[name]
            values = {
                metric: sum(picture[metric] for picture in pictures) / len(pictures)
                for metric in pictures[0]
            }
            values["pictures_per_s"] = len(order) * 1000 / values.pop("wall_ms")
            if case.course is not Course.LADDER:
                values["round_ms"] = used[name] / 1e6 / len(pictures)
            values["disturbed"] = disturbed
            yield Sample(case.name, number, name, values)

    def _picture(
        self, case: RenderCase, name: str, original: str, order: Sequence[int], kept: bool
    ) -> Mapping[str, float]:
        contestant = self._contestants[name]
        path = self._originals.fresh(original)
        every = case.asked(path)
        rendered = []
        for index in order:
            rendered.append(render(contestant, every[index]))
            if kept and case.course is not Course.LADDER:
                body = rendered[-1].body
                self.outputs.append(Output(case.name, name, original, every[index], body))
        values = {
            "cpu_ms": sum(one.cpu_ms for one in rendered),
            "wall_ms": sum(one.wall_ms for one in rendered),
            "bytes": sum(len(one.body) for one in rendered) / len(rendered),
        }
        if case.course is Course.LADDER:
            alone = render(contestant, case.asked(self._originals.fresh(original))[-1])
            values["largest_ms"] = alone.cpu_ms
            values["of_largest"] = values["cpu_ms"] / alone.cpu_ms
        return values

    @contextlib.contextmanager
    def _blamed(self, case: str, name: str, running: list[str]) -> Iterator[None]:
        try:
            yield
        except FAULTS as error:
            self.failures.append(f"{case}, {name}: {error}")
            if name in running:
                running.remove(name)


def render(contestant: Contestant, asked: Asked) -> Rendered:
    """One picture, measured and checked."""
    top = contestant.top()
    ask = contestant.ask(asked)
    before = spent_ns(top)
    began = time.perf_counter()
    body = ask()
    wall_ms = (time.perf_counter() - began) * 1000
    cpu_ms = (settled_ns(top, QUIET_NS, PAUSE_S, SETTLED_WITHIN_S) - before) / 1e6
    check(asked, body)
    return Rendered(body, cpu_ms, wall_ms)


def check(asked: Asked, body: bytes) -> None:
    """The format and the width are what was asked for. Raises NoPictureError."""
    try:
        with Image.open(io.BytesIO(body)) as image:
            found, width = image.format, image.width
    except OSError as error:
        raise NoPictureError(f"no picture for {asked}") from error
    if found != asked.format.upper() or (width != asked.width and not asked.name):
        raise NoPictureError(f"{found}, {width} pixels wide, for {asked}")


def _order(case: RenderCase, number: int, place: int) -> list[int]:
    """The same for every contestant of a picture, another one for the next."""
    order = list(range(len(case.names or case.widths)))
    random.Random(f"{case.name} {number} {place}").shuffle(order)
    return order
