"""The command `halftone`: reads the command line, calls one function, prints, exits.

A person's mistake is a sentence on standard error, never a traceback. Commands stand in commands/,
a file each; one is imported when it is called, and what it needs when it runs: `version` and
`healthcheck` start without the server, `serve` without what asks a server, and nothing here imports
a picture decoder.
"""

import importlib
from typing import Final

import click

from edge.commands.status import EXIT

# By name, the room in commands/ and the function there.
COMMANDS: Final = {
    "check": ("configuration", "check"),
    "config": ("configuration", "config_"),
    "drain": ("running", "drain"),
    "fsck": ("fsck", "fsck"),
    "healthcheck": ("running", "healthcheck"),
    "ladder": ("ladder", "ladder"),
    "purge": ("purge", "purge"),
    "sandbox-check": ("sandbox", "sandbox_check"),
    "serve": ("serve", "serve"),
    "stats": ("running", "stats"),
    "version": ("version", "version"),
    "warm": ("warm", "warm"),
}


class Commands(click.Group):
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        # Of a name that nobody has, click looks for what may have been meant.
        for name in (cmd_name,) if cmd_name in COMMANDS else COMMANDS:
            if name not in self.commands:
                room, function = COMMANDS[name]
                module = importlib.import_module(f"edge.commands.{room}")
                self.add_command(getattr(module, function), name)
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT)
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


if __name__ == "__main__":
    main()
