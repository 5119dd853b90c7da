"""Options that several commands have."""

from collections.abc import Sequence

import click


def check_address(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    from edge.settings.addresses import parse_address
    from edge.settings.units import BadValue

    if value is not None:
        try:
            parse_address(value)
        except BadValue as error:
            raise click.BadParameter(str(error)) from None
    return value


def check_addresses(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> Sequence[str]:
    for value in values:
        check_address(context, parameter, value)
    return values


config_option = click.option(
    "--config",
    "config_path",
    metavar="FILE",
    envvar="HALFTONE_CONFIG",
    type=click.Path(dir_okay=False),
    help="The configuration, TOML. Default: /etc/halftone/halftone.toml where that exists."
    " Also from HALFTONE_CONFIG.",
)
listen_option = click.option(
    "--listen",
    metavar="HOST:PORT",
    multiple=True,
    callback=check_addresses,
    help="Where clients connect; can be given several times. Port 0 picks a free one."
    " Default with ROOT: 127.0.0.1:8080.",
)
admin_option = click.option(
    "--admin",
    metavar="HOST:PORT",
    callback=check_address,
    help="Where status page, metrics, health and purges are. Default: 127.0.0.1:8081."
    " No password: keep it private.",
)
cache_option = click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Folder of the cache, made when missing. Default with ROOT: a folder for that ROOT below"
    " ~/.cache/halftone, so that a restart is warm.",
)
