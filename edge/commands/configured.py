"""The configuration that a command was told of."""

import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from edge.commands.status import BAD_CONFIGURATION

if TYPE_CHECKING:
    from edge.config import Config, ConfigError


def path_of(given: str | None) -> str | None:
    from edge.config import DEFAULT_PATH

    if given is not None:
        return given
    return DEFAULT_PATH if os.path.exists(DEFAULT_PATH) else None


def configured(config_path: str | None) -> "Config":
    from edge.config import ConfigError, load

    try:
        return load(path_of(config_path), os.environ, {}, is_checked=False)
    except ConfigError as error:
        refuse(error)


def refuse(error: "ConfigError") -> NoReturn:
    for problem in error.problems:
        click.echo(str(problem), err=True)
    sys.exit(BAD_CONFIGURATION)
