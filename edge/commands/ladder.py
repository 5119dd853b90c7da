"""`halftone ladder`: renders the usual sizes of a file, without a node."""

import os
import sys
from typing import TYPE_CHECKING

import click

from edge.commands.status import EXIT, FAILED

if TYPE_CHECKING:
    from resizer.formats import Format


def _parse_steps(
    _: click.Context, __: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    from resizer.transform import MAX_SIDE

    if value is None:
        return None
    words = value.split(",")
    if not all(word.isascii() and word.isdecimal() and len(word) <= 5 for word in words):
        raise click.BadParameter(f"widths with commas, like 120,250,1280, not {value!r}")
    steps = tuple(map(int, words))
    if not all(1 <= width <= MAX_SIDE for width in steps):
        raise click.BadParameter(f"a width is outside 1 to {MAX_SIDE}")
    return steps


def _parse_format(_: click.Context, __: click.Parameter, value: str | None) -> "Format | None":
    from resizer.formats import EXTENSIONS

    if value is None:
        return None
    if value.lower() not in EXTENSIONS:
        raise click.BadParameter(f"{value!r} is none of {', '.join(EXTENSIONS)}")
    return EXTENSIONS[value.lower()]


@click.command(short_help="Render the usual sizes of a file.", epilog=EXIT)
@click.argument("source", metavar="FILE", type=click.Path())
@click.option(
    "--steps",
    metavar="W,W,...",
    callback=_parse_steps,
    help="Widths in pixels. Default: 120,220,250,330,480,640,960,1280.",
)
@click.option(
    "--format",
    "wanted",
    metavar="FORMAT",
    callback=_parse_format,
    help="jpeg, png, webp, avif or gif. Default: the file's own.",
)
@click.option(
    "--out",
    metavar="DIR",
    default=".",
    type=click.Path(file_okay=False),
    help="Where the files go; made when missing. Default: the folder you are in.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--dry-run", is_flag=True, help="Render, print the table, write nothing.")
def ladder(
    source: str,
    steps: tuple[int, ...] | None,
    wanted: "Format | None",
    out: str,
    force: bool,
    dry_run: bool,
) -> None:
    """Render FILE at several widths in one go: NAME-WIDTHpx.EXT for each.

    FILE is decoded once, in a sandboxed process as a node has them; a small size is made from a
    larger one. Widths above the picture's own are left out. No node needs to run, and none is
    touched.

    Prints a line for each, the widest first: its size, bytes, time, and what it was made from.
    What a page's thumbnails weigh, and how long an original takes: add --dry-run.
    """
    from edge.policy.rungs import STEPS
    from edge.rungs import CannotClimb, Rung, Wish, climb

    def report(rung: Rung) -> None:
        click.echo(
            f"{f'{rung.width} x {rung.height}':>13}  {rung.length:>9} bytes  {rung.ms:7.1f} ms"
            f"  from {rung.parent}{f'  {rung.path}' if rung.path else ''}"
        )

    try:
        if not dry_run:
            os.makedirs(out, exist_ok=True)
        climb(Wish(source, None if dry_run else out, steps or STEPS, wanted, force), report)
    except OSError as error:
        click.echo(f"halftone: {out}: {error.strerror}", err=True)
        sys.exit(FAILED)
    except CannotClimb as error:
        click.echo(f"halftone: {error}", err=True)
        sys.exit(FAILED)
