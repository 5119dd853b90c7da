"""`halftone check` and `config`: what is configured, before it is served."""

import os

import click

from edge.commands.configured import path_of, refuse
from edge.commands.options import config_option
from edge.commands.status import EXIT


@click.command(short_help="Check the configuration.", epilog=EXIT)
@config_option
def check(config_path: str | None) -> None:
    """Check the configuration as `serve` would read it, environment included.

    Prints every problem as FILE:LINE: setting: message, or "configuration OK". Looks at folders,
    permissions and names, changes nothing. Run it as the user that will serve: what another user
    may read says little.
    """
    from edge.config import ConfigError, load

    try:
        load(path_of(config_path), os.environ, {})
    except ConfigError as error:
        refuse(error)
    click.echo("configuration OK")


@click.command("config", short_help="Print the configuration in effect.", epilog=EXIT)
@click.option("--default", "is_default", is_flag=True, help="The annotated default file instead.")
@config_option
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
        config = load(path_of(config_path), os.environ, {}, is_checked=False)
    except ConfigError as error:
        refuse(error)
    click.echo(config.toml(), nl=False)
