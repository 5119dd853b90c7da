"""A node whose resizers do what a picture's comment tells them: `... -m edge.cli serve ARGUMENTS`.

Runs what follows it, as the command does, with tests/resizer/faulty_worker.py in the place of the
worker. No setting and no request reaches that; it is done from outside, here.
"""

import sys
from pathlib import Path

from edge import cli
from resizer import child
from resizer.pool import Pool


def command(pool: Pool, number: int) -> list[str]:
    limits = ",".join(map(str, pool.settings.limits.values()))
    home = str(Path(__file__).parents[1] / "resizer")
    return child.command("faulty_worker", str(number), pool.settings.sandbox, limits, home=home)


if __name__ == "__main__":
    Pool._worker_command = command  # type: ignore[method-assign]
    cli.main(sys.argv[sys.argv.index("edge.cli") + 1 :])
