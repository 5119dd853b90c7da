"""CGI programs for tests: one Python file whose behaviour is chosen by the path of the request."""

import os
import sys
from pathlib import Path

# -SE: starting an interpreter is most of what such a test costs.
PROGRAM = """
import os, sys, time
out, path = sys.stdout.buffer, os.environ["DOCUMENT_URI"]
HEAD = b"Content-Type: image/jpeg\\n"
BODY = b"a picture, or so" * 4
def say(*parts):
    for part in parts:
        out.write(part)
        out.flush()
match path:
    case "/plain": say(HEAD, b"Content-Length: 64\\n\\n", BODY)
    case "/open-end": say(HEAD, b"\\n", BODY)
    case "/large": say(HEAD, b"Content-Length: 3000000\\n\\n", b"x" * 3000000)
    case "/missing": say(b"Status: 404 Not Found\\nContent-Type: text/plain\\n\\nno\\n")
    case "/environment":
        say(b"Content-Type: text/plain\\n\\n")
        say(b"\\n".join(name + b"=" + value for name, value in sorted(os.environb.items())))
    case "/inherited":
        found = sorted(map(int, os.listdir("/proc/self/fd")))[:-1]  # the last is of the listing
        kinds = [os.readlink(f"/proc/self/fd/{n}").partition(":")[0] for n in (0, 1, 2)]
        told = (found, os.getcwd(), os.getpgrp() == os.getpid(), kinds)
        say(b"Content-Type: text/plain\\n\\n", repr(told).encode())
    case "/echo": say(HEAD, b"\\n", sys.stdin.buffer.read())
    case "/unread": say(HEAD, b"\\n", BODY)
    case "/head": say(HEAD, b"Content-Length: 64\\n\\n")
    case "/nothing": pass
    case "/garbage": say(b"\\x00\\x01")
    case "/no-type": say(b"X: y\\n\\n", BODY)
    case "/half-head": say(b"Content-Ty")
    case "/short": say(HEAD, b"Content-Length: 65\\n\\n", BODY)
    case "/long": say(HEAD, b"Content-Length: 64\\n\\n", BODY, b"excess"); time.sleep(60)
    case "/status": say(HEAD, b"\\n", BODY); sys.exit(3)
    case "/status-early": sys.exit(3)
    case "/killed": say(HEAD, b"Content-Length: 64\\n\\n", BODY); os.kill(os.getpid(), 9)
    case "/killed-in-body": say(HEAD, b"\\n", BODY); os.kill(os.getpid(), 9)
    case "/lingers": say(HEAD, b"\\n", BODY); os.close(1); time.sleep(60)
    case "/hangs": time.sleep(60)
    case "/hangs-in-body": say(HEAD, b"\\n", BODY); time.sleep(60)
    case "/family":  # a child that holds the output, and must go, too
        if os.fork() == 0:
            time.sleep(60)
        say(HEAD, b"X-Pid: %d\\n\\n" % os.getpid(), BODY)
        time.sleep(60)
    case "/orphan":  # the child stays, the program ends
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
        say(HEAD, b"X-Pid: %d\\n\\n" % pid, BODY)
    case "/stderr":
        sys.stderr.write("one\\ntwo\\x1b[31m\\n" + "z" * 200000)
        say(HEAD, b"\\n", BODY)
    case "/sendfile": say(b"X-Sendfile: " + os.environb[b"QUERY_STRING"] + b"\\n\\n")
"""


def make_program(folder: Path) -> Path:
    path = folder / "program"
    path.write_text(f"#!{sys.executable} -SE{PROGRAM}")
    os.chmod(path, 0o755)
    return path
