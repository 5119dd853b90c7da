"""`halftone sandbox-check`: tries to break out of the sandbox."""

import sys

import click

from edge.commands.status import EXIT, FAILED


@click.command(
    "sandbox-check", short_help="Try to break out of the resizers' sandbox.", epilog=EXIT
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
