"""What a resizer of the node holds: at rest, after work, and at the peak of its largest picture."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from tests.bench import proc
from tests.bench.contestants import Node, NoPictureError
from tests.bench.render_cases import LARGE, PHOTOGRAPHS, Asked

# Just below the node's limit of 50,000,000 pixels, and 3:2 as cameras have it.
HUGE_SIZE = (8_660, 5_773)
HUGE_WIDTH = 320


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes, each of the largest resizer."""

    rest: int  # before the first picture
    after: int  # at rest again, when the ten photographs were made 1280 pixels wide
    peak: int  # ever, in a fresh node that made HUGE_WIDTH pixels of the huge picture


def measure(core: int, folder: str) -> Resident:
    """Raises NoPictureError, ServerError, OSError."""
    root = f"{folder}/root"
    os.makedirs(root)
    draw_huge(f"{root}/huge.jpg")
    for name, path in PHOTOGRAPHS.items():
        shutil.copyfile(path, f"{root}/{name}")
    huge = _of_a_fresh_node(core, f"{folder}/huge", root, [Asked("/huge.jpg", HUGE_WIDTH)])
    ten = [Asked(f"/{name}", 1280) for name in PHOTOGRAPHS]
    usual = _of_a_fresh_node(core, f"{folder}/ten", root, ten)
    return Resident(usual.rest, usual.after, huge.peak)


def draw_huge(path: str) -> None:
    """A baseline JPEG as a camera writes it, from the largest photograph there is."""
    with Image.open(LARGE) as image:
        image.resize(HUGE_SIZE, Image.Resampling.BICUBIC).save(path, quality=88)


def _of_a_fresh_node(core: int, folder: str, root: str, work: Sequence[Asked]) -> Resident:
    os.makedirs(folder)
    node = Node(core)
    try:
        node.start(root, folder)
        resizers = node.resizers()
        if not resizers:
            raise NoPictureError("the node has no resizer process")
        rest = max(proc.memory(pid).rss for pid in resizers)
        for asked in work:
            node.ask(asked)()
        resizers = node.resizers()
        after = max(proc.memory(pid).rss for pid in resizers)
        return Resident(rest, after, max(map(proc.peak_rss, resizers)))
    finally:
        node.stop()
