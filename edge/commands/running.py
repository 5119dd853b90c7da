"""`halftone healthcheck`, `stats`, `drain`: a node that runs is asked how it is, or to end."""

import http.client
import json
import os
import select
import signal
import sys
from typing import Final

import click

from edge.commands.configured import configured
from edge.commands.node import HEALTH_TIMEOUT_S, admin_address, ask
from edge.commands.options import admin_option, config_option
from edge.commands.status import EXIT, FAILED

# Above the grace of a drain, 30 s, and what the master adds to it.
DRAIN_TIMEOUT_S: Final = 60.0


@click.command(short_help="Ask a running node if it is alive.", epilog=EXIT)
@admin_option
@config_option
def healthcheck(admin: str | None, config_path: str | None) -> None:
    """Ask a running node whether it is alive, for containers without curl.

    Requests /healthz from the admin listener of --admin, or of the configuration. Exit 0 when it
    answers 200 within 3 seconds, 1 when not.
    """
    address = admin_address(admin, config_path)
    status, _ = ask(address, "/healthz", timeout_s=HEALTH_TIMEOUT_S)
    if status != http.HTTPStatus.OK:
        click.echo(f"halftone: {address} answers {status}", err=True)
        sys.exit(FAILED)
    click.echo("ok")


@click.command(short_help="Show a running node's numbers.", epilog=EXIT)
@click.option("--json", "is_json", is_flag=True, help="As one JSON object.")
@admin_option
@config_option
def stats(is_json: bool, admin: str | None, config_path: str | None) -> None:
    """Show how a running node is doing: hits, misses, renders, cache, index, purges.

    Since the node was started, all workers together. Everything else is on /metrics.
    """
    from edge.summary import parse_metrics, summary

    address = admin_address(admin, config_path)
    status, body = ask(address, "/metrics", timeout_s=HEALTH_TIMEOUT_S)
    if status != http.HTTPStatus.OK:
        click.echo(f"halftone: {address} answers {status}", err=True)
        sys.exit(FAILED)
    lines = summary(parse_metrics(body.decode(errors="replace")))
    if is_json:
        click.echo(json.dumps({line.name: line.number for line in lines}))
        return
    width = max((len(line.name) for line in lines), default=0)
    for line in lines:
        click.echo(f"{line.name:{width}}  {line.text:>12}")


@click.command(short_help="Ask a running node to drain, and wait.", epilog=EXIT)
@click.option(
    "--pid-file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Where the node writes its process id. Default: pid_file of the configuration.",
)
@config_option
def drain(pid_file: str | None, config_path: str | None) -> None:
    """Ask a running node to drain, as TERM does, and wait until it has ended.

    Its pid_file says which process it is. Exit 0 when it has ended, 1 when there is none, or when
    it takes longer than 60 seconds.
    """
    from edge.pid_file import maybe_running

    path = pid_file or configured(config_path).pid_file
    if path is None:
        raise click.UsageError("the configuration sets no pid_file; give --pid-file FILE")
    try:
        pid = maybe_running(path)
        if pid is None:
            click.echo(f"halftone: no node is running by {path}", err=True)
            sys.exit(FAILED)
        process = os.pidfd_open(pid)
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except OSError as error:
        click.echo(f"halftone: {path}: {error.strerror}", err=True)
        sys.exit(FAILED)
    is_over = bool(select.select([process], [], [], DRAIN_TIMEOUT_S)[0])
    os.close(process)
    if not is_over:
        click.echo(f"halftone: process {pid} still drains", err=True)
        sys.exit(FAILED)
    click.echo("drained")
