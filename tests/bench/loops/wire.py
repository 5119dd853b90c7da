"""What a bare loop reads and writes, for those in Python. Standard library only.

In:  {"path": "/x/Dune.jpg", "width": 220, "format": "jpeg", "quality": 80}
Out: the length in decimal, a line feed, the picture. A line "ready" comes first.
"""

import json
import sys
from collections.abc import Callable

Render = Callable[[str, int, str, int], bytes]


def run(render: Render) -> None:
    """Answers until standard input ends. What render raises ends the program."""
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.buffer.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        body = render(asked["path"], asked["width"], asked["format"], asked["quality"])
        sys.stdout.buffer.write(b"%d\n" % len(body))
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
