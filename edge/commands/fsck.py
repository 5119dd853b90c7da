"""`halftone fsck`: compares the files of a cache with its index, or has a node do it."""

import http.client
import importlib
import json
import os
import sys
from collections.abc import Mapping
from typing import cast

import click

from edge.commands.configured import path_of, refuse
from edge.commands.node import admin_address, ask, is_listening, one_line, read_json
from edge.commands.options import admin_option, config_option
from edge.commands.status import EXIT, FAILED


@click.command(short_help="Compare a node's files with its index.", epilog=EXIT)
@click.option("--fix", is_flag=True, help="Put right what can be: remove what is damaged.")
@click.option("--json", "is_json", is_flag=True, help="As one JSON object.")
@click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Look at this folder, without asking any node: for one that was served with ROOT.",
)
@admin_option
@config_option
def fsck(
    fix: bool, is_json: bool, cache: str | None, admin: str | None, config_path: str | None
) -> None:
    """Compare the files of a cache with its index, both ways.

    Has the running node do it, which goes on serving; a large cache takes minutes, since every
    file is read. Where none runs, by the configuration's admin address, it looks itself: as the
    user whose cache it is, and the embedded index must not be in use.

    Prints what is wrong, counts, and a verdict. Without --fix no file is changed; but an index that
    cannot be read is set aside when it is opened, as at any start. Nothing of what it may find has
    ever been served: files are looked at as they are used, too.

    Exit 0 when it is clean, or was made so; 1 when something is damaged, abandoned or unreadable.
    """
    from edge.findings import is_clean, report

    if cache is not None and admin is not None:
        raise click.UsageError("--cache and --admin exclude each other")
    address = None if cache is not None else admin_address(admin, config_path)
    if address is None or (admin is None and not is_listening(address)):
        found = _check_at_rest(cache, config_path, fix=fix)
    else:
        status, body = ask(address, f"/fsck?fix={int(fix)}", "POST", timeout_s=None)
        if status != http.HTTPStatus.OK:
            click.echo(f"halftone: {address} answers {status}: {one_line(body)}", err=True)
            sys.exit(FAILED)
        found = read_json(address, body)
    if is_json:
        click.echo(json.dumps(found))
    else:
        for line in report(found):
            click.echo(line)
    if not is_clean(found):
        sys.exit(FAILED)


def _check_at_rest(
    cache: str | None, config_path: str | None, *, fix: bool
) -> Mapping[str, object]:
    from edge.config import ConfigError, load

    overrides = {} if cache is None else {"cache.path": os.path.abspath(cache)}
    try:
        config = load(path_of(config_path), os.environ, overrides, is_checked=False)
    except ConfigError as error:
        refuse(error)
    click.echo(f"no node is asked: looking at {config.cache.path}", err=True)
    app = importlib.import_module("edge.app")
    try:
        return cast("Mapping[str, object]", app.fsck(config, fix=fix))
    except app.CannotStart as error:
        click.echo(
            f"halftone: {error}; if a node has it open, have that one look: --admin", err=True
        )
        sys.exit(FAILED)
