"""`halftone warm`: has a node make pictures before they are asked for."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, TextIO

import click

from edge.commands.node import connection_to, printable, public_address
from edge.commands.options import check_address, config_option
from edge.commands.status import EXIT, FAILED
from edge.commands.urls import split_url

if TYPE_CHECKING:
    from edge.warm import Result

# Lines of a log that nobody looks at while it grows.
_PROGRESS_EVERY: Final = 1000


@click.command(short_help="Have a node make pictures before they are asked for.", epilog=EXIT)
@click.argument(
    "source", metavar="FILE|-", type=click.File("r", encoding="utf-8", errors="replace")
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=8,
    help="Requests at a time. Default: 8; more than twice the node's resizers only queue.",
)
@click.option(
    "--site",
    metavar="HOST",
    default="localhost",
    help="The site of paths, by one of its host names. Default: the site that takes every host.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    callback=check_address,
    help="Where the node's clients connect. Default: the first listener of the configuration.",
)
@config_option
def warm(source: TextIO, jobs: int, site: str, listen: str | None, config_path: str | None) -> None:
    """Ask a running node for every URL of a list, so that the first client finds them made.

    FILE has one a line, http://HOST/PATH or a path alone with --site; - is standard input. Lines
    that begin with # say nothing. All are asked of this node, whatever their host resolves to.

    Shows how far it is, on a terminal as a bar; what failed is a line on standard error, and the
    last line counts hits, misses and errors. Exit 1 when there was an error.
    """
    from edge.warm import Outcome, Result, Wish, count_names, read_names
    from edge.warm import warm as ask_all

    address = public_address(listen, config_path)
    counts = dict.fromkeys(Result, 0)

    def parse(name: str) -> Wish:
        try:
            target, host, scheme = split_url(name, site)
        except click.UsageError as error:
            raise ValueError(error.message) from None
        return Wish(target, host, scheme == "https")

    with _progress(count_names(source)) as (show, say):

        def tell(outcome: Outcome) -> None:
            counts[outcome.result] += 1
            if outcome.result is Result.ERROR:
                say(printable(f"halftone: {outcome.name}: {outcome.detail}"))
            show(sum(counts.values()), _counted(counts))

        try:
            ask_all(
                read_names(source),
                parse,
                lambda timeout_s: connection_to(address, timeout_s),
                jobs,
                tell,
            )
        except OSError as error:
            raise click.UsageError(f"{source.name}: {error}") from None
    click.echo(_counted(counts))
    if counts[Result.ERROR]:
        sys.exit(FAILED)


@contextlib.contextmanager
def _progress(
    total: int | None,
) -> Iterator[tuple[Callable[[int, str], None], Callable[[str], None]]]:
    """How to show how far it is, and how to say something meanwhile. total None: nobody knows."""
    if not sys.stderr.isatty():

        def show_line(done: int, text: str) -> None:
            if done % _PROGRESS_EVERY == 0:
                click.echo(text, err=True)

        yield show_line, lambda text: click.echo(text, err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield (
            lambda done, text: progress.update(task, completed=done, description=text),
            lambda text: console.print(text, soft_wrap=True),
        )


def _counted(counts: "Mapping[Result, int]") -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())
