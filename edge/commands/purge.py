"""`halftone purge`: has a node forget pictures."""

import http.client
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import click

from edge.commands.node import admin_address, ask, one_line, read_json
from edge.commands.options import admin_option, config_option
from edge.commands.status import EXIT, FAILED
from edge.commands.urls import escaped, split_url

# Many tags are many durable writes; then the caches in front are told for a second at most.
PURGE_TIMEOUT_S: Final = 30.0
# Below the node's own sentences: who asks at night need not look for what "recorded" means.
_UNRECORDED: Final = (
    "halftone: the index (Redis) did not take it, so nothing is purged for certain. The node's log"
    " says why (NOT recorded); ask again when /readyz is not degraded"
)
_PURGE_WORDS: Final = {
    "purge": ("purged", "would purge"),
    "soften": ("softened", "would soften"),
    "take-down": ("took down", "would take down"),
    "lift": ("lifted", "would lift"),
}


@click.command(short_help="Make a node forget pictures.", epilog=EXIT)
@click.argument("urls", metavar="[URL]...", nargs=-1)
@click.option("--soft", is_flag=True, help="Keep what is there, and validate it before it is used.")
@click.option(
    "--tag", "tags", metavar="TAG", multiple=True, help="Originals with this tag (Surrogate-Key)."
)
@click.option(
    "--prefix",
    "prefixes",
    metavar="PATH",
    multiple=True,
    help="Originals whose path starts like this, such as /2019/.",
)
@click.option("--dry-run", is_flag=True, help="Say what it would do, change nothing.")
@click.option("--takedown", is_flag=True, help="And answer 451 in their place until --lift.")
@click.option("--lift", is_flag=True, help="End a takedown.")
@click.option(
    "--site",
    metavar="HOST",
    default="localhost",
    help="The site of paths, tags and prefixes, by one of its host names. Default: the site that"
    " takes every host.",
)
@admin_option
@config_option
def purge(
    urls: Sequence[str],
    soft: bool,
    tags: Sequence[str],
    prefixes: Sequence[str],
    dry_run: bool,
    takedown: bool,
    lift: bool,
    site: str,
    admin: str | None,
    config_path: str | None,
) -> None:
    """Make a node forget pictures: originals, with every derivative in every grammar.

    URL is that of an original or of any derivative of it, http://HOST/PATH, or the path alone with
    --site. Asks the admin listener of a running node. With a Redis index it holds for the farm; the
    caches in front are told where `downstream` is set.

    Prints a line for each. Exit 0 when all are on record, 1 when one is not: ask again.
    """
    if not urls and not tags and not prefixes:
        raise click.UsageError("nothing to purge: give URLs, --tag or --prefix")
    if takedown and lift:
        raise click.UsageError("--takedown and --lift exclude each other")
    if (takedown or lift) and (soft or tags or prefixes):
        raise click.UsageError("a takedown is of URLs, and never soft")
    fields: dict[str, str] = {}
    if soft:
        fields["Soft-Purge"] = "1"
    if dry_run:
        fields["Dry-Run"] = "1"
    if takedown or lift:
        fields["Takedown"] = "lift" if lift else "1"
    asked: list[tuple[str, str, dict[str, str]]] = []  # what it is called, target, fields
    for url in urls:
        target, host, scheme = split_url(url, site)
        more = {"X-Forwarded-Proto": "https"} if scheme == "https" else {}
        asked.append((url, target, {"Host": host, **more}))
    for tag in tags:
        if not tag or set(tag) & set(" \t\r\n"):
            raise click.UsageError(f"{tag!r} is no tag: it is empty, or has white space")
        asked.append((f"tag {tag}", "/", {"Host": site, "Surrogate-Key": tag}))
    for prefix in prefixes:
        if not prefix.startswith("/"):
            raise click.UsageError(f"{prefix!r} is no start of a path: it begins with /")
        asked.append((f"prefix {prefix}", "/", {"Host": site, "Purge-Prefix": escaped(prefix)}))
    address = admin_address(admin, config_path)
    is_whole = is_recorded = True
    for name, target, particular in asked:
        status, body = ask(
            address, target, "PURGE", {**fields, **particular}, timeout_s=PURGE_TIMEOUT_S
        )
        if status != http.HTTPStatus.OK:
            click.echo(f"halftone: {name}: {status}: {one_line(body)}", err=True)
            is_recorded &= status != http.HTTPStatus.SERVICE_UNAVAILABLE
            is_whole = False
            continue
        click.echo(_purge_line(name, read_json(address, body)))
    if not is_recorded:
        click.echo(_UNRECORDED, err=True)
    if not is_whole:
        sys.exit(FAILED)


def _purge_line(name: str, answer: Mapping[str, object]) -> str:
    past, conditional = _PURGE_WORDS.get(str(answer.get("act")), ("did", "would do"))
    number = answer.get("purged")
    reach = "on this node" if answer.get("scope") == "node" else "in the farm"
    entries = f"{number} {'entry' if number == 1 else 'entries'} {reach}"
    line = f"{conditional if answer.get('dry_run') else past} {name}: {entries}"
    told = answer.get("downstream")
    if isinstance(told, dict) and any(told.values()):
        counts = ", ".join(f"{told.get(word)} {word}" for word in ("told", "failed", "pending"))
        line += f"; caches in front: {counts}"
    return f"{line} ({answer.get('id')})"
