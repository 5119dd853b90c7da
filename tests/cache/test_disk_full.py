"""A file system that is really full, of bytes or of inodes: a tiny tmpfs in its own namespace."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# As root, too: what is mounted there ends with the process.
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def may_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    return subprocess.run([*NAMESPACE, *mount], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("bytes", "size=64k,nr_inodes=2000"),
        ("inodes", "size=4m,nr_inodes=20"),
        ("floor", "size=128k,nr_inodes=2000"),
    ],
)
def test_a_disk_that_is_really_full(tmp_path: Path, what: str, options: str) -> None:
    if not may_mount(tmp_path):
        pytest.skip("this user may not mount a tmpfs in a namespace")
    script = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
    child = [sys.executable, "-m", "tests.cache.small_disk", str(tmp_path), what]
    child = ["sh", "-c", script, "sh", options, str(tmp_path), *child]
    done = subprocess.run(
        [*NAMESPACE, *child], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
