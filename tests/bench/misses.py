"""Keeps a node rendering: python -m tests.bench.misses PORT PATH

One request at a time, each for a size and quality of PATH that was not asked for before. Ends with
its standard input, and says how many it had.
"""

import http.client
import random
import selectors
import sys

WIDTHS = range(100, 1000)
QUALITIES = range(60, 95)


def main() -> None:
    port, path = int(sys.argv[1]), sys.argv[2]
    asked = [f"{path}?w={width}&q={quality}" for width in WIDTHS for quality in QUALITIES]
    # Another order in every run, so that the runs of a round do not repeat each other's requests.
    random.shuffle(asked)
    ending = selectors.DefaultSelector()
    ending.register(sys.stdin, selectors.EVENT_READ)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    made = 0
    print("ready", flush=True)
    for target in asked:
        if ending.select(0):
            break
        connection.request("GET", target)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"answered {answer.status} to {target}")
        made += "fwd=" in (answer.getheader("Cache-Status") or "")
    print(f"made {made}", flush=True)


if __name__ == "__main__":
    main()
