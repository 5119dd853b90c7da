"""`halftone serve`: reads the command line and starts the server."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence

import click

from edge.commands.configured import path_of, refuse
from edge.commands.options import admin_option, cache_option, config_option, listen_option
from edge.commands.status import EXIT


@click.command(short_help="Serve pictures until a signal.", epilog=EXIT)
@click.argument("root", required=False, type=click.Path(exists=True, file_okay=False))
@listen_option
@admin_option
@cache_option
@config_option
def serve(
    root: str | None,
    listen: Sequence[str],
    admin: str | None,
    cache: str | None,
    config_path: str | None,
) -> None:
    """Serve pictures, in the foreground, until a signal.

    With ROOT, a folder of originals, nothing needs to be configured: every URL grammar is on, on
    loopback. Otherwise the configuration says what to serve. These options win over the
    environment (HALFTONE__CACHE__SIZE=10GiB), the environment over the file.

    When ready, one line on standard error says where it listens.

    \b
    TERM, QUIT   drain: finish what is under way, then exit 0
    INT          drain for a second, then stop; a second one stops at once
    HUP          read the configuration again; a bad one is logged, the old one stays
    USR1         reopen the log files
    USR2         start the program anew, hand it the sockets when it is ready, and drain
    """
    from edge.garbage import undisturbed

    with undisturbed():
        from edge.config import Config, ConfigError, load

    if root is not None and _given("config_path"):
        raise click.UsageError("ROOT and --config exclude each other: write root into [[site]]")
    options = {"listen": ",".join(listen), "admin": admin, "cache.path": cache}
    overrides = {name: text for name, text in options.items() if text}
    if cache:
        overrides["cache.path"] = os.path.abspath(cache)
    try:
        if root is not None:
            config = Config.for_folder(
                root, overrides.get("listen"), admin, overrides.get("cache.path"), os.environ
            )
        else:
            path = path_of(config_path)
            if path is None and not any(name.startswith("HALFTONE__SITE__") for name in os.environ):
                raise click.UsageError("nothing to serve: give ROOT, a folder, or --config FILE")
            config = load(path, os.environ, overrides)
    except ConfigError as error:
        refuse(error)
    # The server and its loop are imported last: a refused command line stays cheap.
    with undisturbed():
        run: Callable[[Config], int] = importlib.import_module("edge.start").serve
    sys.exit(run(config))


def _given(parameter: str) -> bool:
    """On the command line, not by the environment."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE
