"""`halftone version`: what a bug report needs."""

import importlib.metadata
import platform

import click

from edge.commands.status import EXIT


@click.command(short_help="Print versions for a bug report.", epilog=EXIT)
def version() -> None:
    """Print the versions that a bug report needs."""
    for name, text in (
        ("halftone", _installed("halftone")),
        ("python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("pillow", _installed("pillow")),
        ("uvloop", _installed("uvloop")),
        ("compiled", "no"),
    ):
        click.echo(f"{name}: {text}")


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
