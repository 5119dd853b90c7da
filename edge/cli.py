"""The command `halftone`: reads the command line, calls one function, prints, exits.

Exit: 0 ok, 1 failed, 2 usage, 78 configuration (EX_CONFIG of sysexits.h). A person's mistake is a
sentence on standard error, never a traceback. What a command needs is imported inside it: `version`
and `healthcheck` start without the server, and nothing here imports a picture decoder.
"""

import contextlib
import http.client
import importlib
import importlib.metadata
import json
import os
import platform
import select
import signal
import socket
import sys
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NoReturn, TextIO, cast

import click

if TYPE_CHECKING:
    from edge.config import Config, ConfigError
    from edge.settings.addresses import Address
    from edge.warm import Result
    from resizer.formats import Format

FAILED: Final = 1
BAD_CONFIGURATION: Final = 78

# Docker gives a health check 30 s by default; a loop that has not turned for 3 s is not well.
HEALTH_TIMEOUT_S: Final = 3.0
# Many tags are many durable writes; then the caches in front are told for a second at most.
PURGE_TIMEOUT_S: Final = 30.0
# Above the grace of a drain, 30 s, and what the master adds to it.
DRAIN_TIMEOUT_S: Final = 60.0
_WILDCARD_TO_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound

_EXIT: Final = "Exit status: 0 ok, 1 failed, 2 wrong usage, 78 wrong configuration."


def _check_address(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    from edge.settings.addresses import parse_address
    from edge.settings.units import BadValue

    if value is not None:
        try:
            parse_address(value)
        except BadValue as error:
            raise click.BadParameter(str(error)) from None
    return value


def _check_addresses(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> Sequence[str]:
    for value in values:
        _check_address(context, parameter, value)
    return values


_config_option = click.option(
    "--config",
    "config_path",
    metavar="FILE",
    envvar="HALFTONE_CONFIG",
    type=click.Path(dir_okay=False),
    help="The configuration, TOML. Default: /etc/halftone/halftone.toml where that exists."
    " Also from HALFTONE_CONFIG.",
)
_listen_option = click.option(
    "--listen",
    metavar="HOST:PORT",
    multiple=True,
    callback=_check_addresses,
    help="Where clients connect; can be given several times. Port 0 picks a free one."
    " Default with ROOT: 127.0.0.1:8080.",
)
_admin_option = click.option(
    "--admin",
    metavar="HOST:PORT",
    callback=_check_address,
    help="Where status page, metrics, health and purges are. Default: 127.0.0.1:8081."
    " No password: keep it private.",
)
_cache_option = click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Folder of the cache, made when missing. Default with ROOT: a folder for that ROOT below"
    " ~/.cache/halftone, so that a restart is warm.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXIT)
def main() -> None:
    """The edge node of an image farm: serves, resizes, caches and purges pictures.

    \b
    Try it:            halftone serve FOLDER-OF-PICTURES
    Set it up:         halftone config --default > halftone.toml
    Before a reload:   halftone check --config halftone.toml
    Is it tight:       halftone sandbox-check
    What it makes:     halftone ladder --dry-run PICTURE
    Is it alive:       halftone healthcheck
    How is it doing:   halftone stats
    A new picture:     halftone purge URL
    """


@main.command(short_help="Serve pictures until a signal.", epilog=_EXIT)
@click.argument("root", required=False, type=click.Path(exists=True, file_okay=False))
@_listen_option
@_admin_option
@_cache_option
@_config_option
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
            path = _config_path(config_path)
            if path is None and not any(name.startswith("HALFTONE__SITE__") for name in os.environ):
                raise click.UsageError("nothing to serve: give ROOT, a folder, or --config FILE")
            config = load(path, os.environ, overrides)
    except ConfigError as error:
        _refuse(error)
    # The server and its loop are imported last: a refused command line stays cheap.
    run: Callable[[Config], int] = importlib.import_module("edge.app").serve
    sys.exit(run(config))


@main.command(short_help="Check the configuration.", epilog=_EXIT)
@_config_option
def check(config_path: str | None) -> None:
    """Check the configuration as `serve` would read it, environment included.

    Prints every problem as FILE:LINE: setting: message, or "configuration OK". Looks at folders,
    permissions and names, changes nothing. Run it as the user that will serve: what another user
    may read says little.
    """
    from edge.config import ConfigError, load

    try:
        load(_config_path(config_path), os.environ, {})
    except ConfigError as error:
        _refuse(error)
    click.echo("configuration OK")


@main.command("config", short_help="Print the configuration in effect.", epilog=_EXIT)
@click.option("--default", "is_default", is_flag=True, help="The annotated default file instead.")
@_config_option
def config_(is_default: bool, config_path: str | None) -> None:
    """Print the effective configuration: file, environment and defaults in one, as TOML.

    Passwords are masked. With --default, print the commented file that is the manual of every
    setting, with its limits and its default.
    """
    from edge.config import ConfigError, default_text, load

    if is_default:
        click.echo(default_text(), nl=False)
        return
    try:
        config = load(_config_path(config_path), os.environ, {}, is_checked=False)
    except ConfigError as error:
        _refuse(error)
    click.echo(config.toml(), nl=False)


@main.command(short_help="Ask a running node if it is alive.", epilog=_EXIT)
@_admin_option
@_config_option
def healthcheck(admin: str | None, config_path: str | None) -> None:
    """Ask a running node whether it is alive, for containers without curl.

    Requests /healthz from the admin listener of --admin, or of the configuration. Exit 0 when it
    answers 200 within 3 seconds, 1 when not.
    """
    address = _admin_address(admin, config_path)
    status, _ = _ask(address, "/healthz", timeout_s=HEALTH_TIMEOUT_S)
    if status != http.HTTPStatus.OK:
        click.echo(f"halftone: {address} answers {status}", err=True)
        sys.exit(FAILED)
    click.echo("ok")


@main.command(short_help="Make a node forget pictures.", epilog=_EXIT)
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
@_admin_option
@_config_option
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
        target, host, scheme = _split_url(url, site)
        more = {"X-Forwarded-Proto": "https"} if scheme == "https" else {}
        asked.append((url, target, {"Host": host, **more}))
    for tag in tags:
        if not tag or set(tag) & set(" \t\r\n"):
            raise click.UsageError(f"{tag!r} is no tag: it is empty, or has white space")
        asked.append((f"tag {tag}", "/", {"Host": site, "Surrogate-Key": tag}))
    for prefix in prefixes:
        if not prefix.startswith("/"):
            raise click.UsageError(f"{prefix!r} is no start of a path: it begins with /")
        asked.append((f"prefix {prefix}", "/", {"Host": site, "Purge-Prefix": _escaped(prefix)}))
    address = _admin_address(admin, config_path)
    is_whole = True
    for name, target, particular in asked:
        status, body = _ask(
            address, target, "PURGE", {**fields, **particular}, timeout_s=PURGE_TIMEOUT_S
        )
        if status != http.HTTPStatus.OK:
            click.echo(f"halftone: {name}: {status}: {_one_line(body)}", err=True)
            is_whole = False
            continue
        click.echo(_purge_line(name, _read_json(address, body)))
    if not is_whole:
        sys.exit(FAILED)


_PURGE_WORDS: Final = {
    "purge": ("purged", "would purge"),
    "soften": ("softened", "would soften"),
    "take-down": ("took down", "would take down"),
    "lift": ("lifted", "would lift"),
}


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


def _split_url(url: str, site: str) -> tuple[str, str, str]:
    """Target, host and scheme."""
    if url.startswith("/"):
        return _escaped(url), site, "http"
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        raise click.UsageError(f"{url!r} is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        raise click.UsageError(f"{url!r} is neither http://HOST/PATH nor a path from / on")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _escaped(target), parts.netloc, parts.scheme


def _escaped(target: str) -> str:
    """What a URL may hold stays as it is; the rest, such as spaces, is percent-encoded."""
    return urllib.parse.quote(target, safe="/%?&=:@!$'()*+,;~-._[]")


@main.command(short_help="Have a node make pictures before they are asked for.", epilog=_EXIT)
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
    callback=_check_address,
    help="Where the node's clients connect. Default: the first listener of the configuration.",
)
@_config_option
def warm(source: TextIO, jobs: int, site: str, listen: str | None, config_path: str | None) -> None:
    """Ask a running node for every URL of a list, so that the first client finds them made.

    FILE has one a line, http://HOST/PATH or a path alone with --site; - is standard input. Lines
    that begin with # say nothing. All are asked of this node, whatever their host resolves to.

    Shows how far it is, on a terminal as a bar; what failed is a line on standard error, and the
    last line counts hits, misses and errors. Exit 1 when there was an error.
    """
    from edge.warm import Outcome, Result, Wish, count_names, read_names
    from edge.warm import warm as ask_all

    address = _public_address(listen, config_path)
    counts = dict.fromkeys(Result, 0)

    def parse(name: str) -> Wish:
        try:
            target, host, scheme = _split_url(name, site)
        except click.UsageError as error:
            raise ValueError(error.message) from None
        return Wish(target, host, scheme == "https")

    with _progress(count_names(source)) as (show, say):

        def tell(outcome: Outcome) -> None:
            counts[outcome.result] += 1
            if outcome.result is Result.ERROR:
                say(_printable(f"halftone: {outcome.name}: {outcome.detail}"))
            show(sum(counts.values()), _counted(counts))

        try:
            ask_all(
                read_names(source),
                parse,
                lambda timeout_s: _connection(address, timeout_s),
                jobs,
                tell,
            )
        except OSError as error:
            raise click.UsageError(f"{source.name}: {error}") from None
    click.echo(_counted(counts))
    if counts[Result.ERROR]:
        sys.exit(FAILED)


# Lines of a log that nobody looks at while it grows.
_PROGRESS_EVERY: Final = 1000


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


def _public_address(listen: str | None, config_path: str | None) -> "Address":
    from edge.settings.addresses import TcpAddress, parse_address

    address = _configured(config_path).listen[0] if listen is None else parse_address(listen)
    if isinstance(address, TcpAddress) and address.port == 0:
        raise click.UsageError("listen has port 0, which is picked at start; give --listen")
    return address


@main.command(short_help="Show a running node's numbers.", epilog=_EXIT)
@click.option("--json", "is_json", is_flag=True, help="As one JSON object.")
@_admin_option
@_config_option
def stats(is_json: bool, admin: str | None, config_path: str | None) -> None:
    """Show how a running node is doing: hits, misses, renders, cache, index, purges.

    Since the node was started, all workers together. Everything else is on /metrics.
    """
    from edge.summary import parse_metrics, summary

    address = _admin_address(admin, config_path)
    status, body = _ask(address, "/metrics", timeout_s=HEALTH_TIMEOUT_S)
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


@main.command(short_help="Compare a node's files with its index.", epilog=_EXIT)
@click.option("--fix", is_flag=True, help="Put right what can be: remove what is damaged.")
@click.option("--json", "is_json", is_flag=True, help="As one JSON object.")
@click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Look at this folder, without asking any node: for one that was served with ROOT.",
)
@_admin_option
@_config_option
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
    address = None if cache is not None else _admin_address(admin, config_path)
    if address is None or (admin is None and not _is_listening(address)):
        found = _check_at_rest(cache, config_path, fix=fix)
    else:
        status, body = _ask(address, f"/fsck?fix={int(fix)}", "POST", timeout_s=None)
        if status != http.HTTPStatus.OK:
            click.echo(f"halftone: {address} answers {status}: {_one_line(body)}", err=True)
            sys.exit(FAILED)
        found = _read_json(address, body)
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
        config = load(_config_path(config_path), os.environ, overrides, is_checked=False)
    except ConfigError as error:
        _refuse(error)
    click.echo(f"no node is asked: looking at {config.cache.path}", err=True)
    app = importlib.import_module("edge.app")
    try:
        return cast("Mapping[str, object]", app.fsck(config, fix=fix))
    except app.CannotStart as error:
        click.echo(
            f"halftone: {error}; if a node has it open, have that one look: --admin", err=True
        )
        sys.exit(FAILED)


def _is_listening(address: "Address") -> bool:
    """False: surely nobody is there."""
    from edge.settings.addresses import UnixAddress

    try:
        if isinstance(address, UnixAddress):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(address.path)
        else:
            host = _WILDCARD_TO_LOOPBACK.get(address.host, address.host)
            socket.create_connection((host, address.port), timeout=HEALTH_TIMEOUT_S).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        return True  # _ask() says what it is
    return True


@main.command(short_help="Ask a running node to drain, and wait.", epilog=_EXIT)
@click.option(
    "--pid-file",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Where the node writes its process id. Default: pid_file of the configuration.",
)
@_config_option
def drain(pid_file: str | None, config_path: str | None) -> None:
    """Ask a running node to drain, as TERM does, and wait until it has ended.

    Its pid_file says which process it is. Exit 0 when it has ended, 1 when there is none, or when
    it takes longer than 60 seconds.
    """
    from edge.pid_file import maybe_running

    path = pid_file or _configured(config_path).pid_file
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


@main.command(
    "sandbox-check", short_help="Try to break out of the resizers' sandbox.", epilog=_EXIT
)
def sandbox_check() -> None:
    """Prove on this machine that a resizer gets out of nothing.

    Sealed processes try to open a file, a socket, to fork, to exec, to signal, and more, each layer
    of the sandbox for itself too; the last one decodes and encodes every format inside. Takes some
    seconds. Run it where the node runs: in its container, under its unit's restrictions.

    Exit 0 when everything holds. With resizer.sandbox = "require", `serve` exits 1 where the kernel
    or a container's profile denies Landlock or seccomp.
    """
    from resizer.probe import check_sandbox

    results = check_sandbox()
    width = max(len(result.name) for result in results)
    layers = max(len(result.layer) for result in results)
    for result in results:
        verdict = "holds" if result.holds else "FAILS"
        click.echo(f"{result.layer:{layers}}  {result.name:{width}}  {verdict}  {result.how}")
    broken = sum(not result.holds for result in results)
    if broken:
        click.echo(
            f"halftone: {broken} of {len(results)} do not hold: a picture may get out here",
            err=True,
        )
        sys.exit(FAILED)
    click.echo(f"all {len(results)} hold")


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


@main.command(short_help="Render the usual sizes of a file.", epilog=_EXIT)
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


@main.command(short_help="Print versions for a bug report.", epilog=_EXIT)
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


def _refuse(error: "ConfigError") -> NoReturn:
    for problem in error.problems:
        click.echo(str(problem), err=True)
    sys.exit(BAD_CONFIGURATION)


def _given(parameter: str) -> bool:
    """On the command line, not by the environment."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE


def _config_path(given: str | None) -> str | None:
    from edge.config import DEFAULT_PATH

    if given is not None:
        return given
    return DEFAULT_PATH if os.path.exists(DEFAULT_PATH) else None


def _configured(config_path: str | None) -> "Config":
    from edge.config import ConfigError, load

    try:
        return load(_config_path(config_path), os.environ, {}, is_checked=False)
    except ConfigError as error:
        _refuse(error)


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _admin_address(admin: str | None, config_path: str | None) -> "Address":
    from edge.settings.addresses import TcpAddress, parse_address

    address = parse_address(admin) if admin is not None else _configured(config_path).admin
    if isinstance(address, TcpAddress) and address.port == 0:
        raise click.UsageError("admin has port 0, which is picked at start; give --admin HOST:PORT")
    return address


def _connection(address: "Address", timeout_s: float | None) -> http.client.HTTPConnection:
    from edge.settings.addresses import UnixAddress

    if isinstance(address, UnixAddress):
        return _UnixConnection(address.path, timeout_s)
    host = _WILDCARD_TO_LOOPBACK.get(address.host, address.host)
    return http.client.HTTPConnection(host, address.port, timeout=timeout_s)


def _ask(
    address: "Address",
    target: str,
    method: str = "GET",
    fields: Mapping[str, str] | None = None,
    *,
    timeout_s: float | None,
) -> tuple[int, bytes]:
    """Status and body; ends the program with a sentence when there is no answer."""
    connection = _connection(address, timeout_s)
    try:
        raw = {name: value.encode() for name, value in (fields or {}).items()}
        connection.request(method, target, headers=raw)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        click.echo(f"halftone: no answer from {address}: {reason}", err=True)
        sys.exit(FAILED)
    finally:
        connection.close()


def _read_json(address: "Address", body: bytes) -> Mapping[str, object]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        click.echo(f"halftone: {address} answers what is no JSON: is it halftone's?", err=True)
        sys.exit(FAILED)
    return answer


def _one_line(body: bytes) -> str:
    """Of an answer, for a terminal."""
    return _printable(body.decode(errors="replace").partition("\n")[0])[:200]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


if __name__ == "__main__":
    main()
