"""What an [[origin]] says reaches its pool: kept connections, backups, weights, probes, limits."""

import pytest

from tests.peers.node import node, quote, until
from tests.peers.phpfpm import PROGRAM, php_fpm
from tests.peers.sockets import refusing

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="php-fpm8.2 is not installed")


def test_every_setting(tmp_path, originals):
    dead = refusing()
    with php_fpm(originals, children=3) as php:
        configuration = (
            f'[[origin]]\nname = "app"\nhosts = [{quote(dead)}]\nbackup = [{quote(php.address)}]\n'
            f'weights = {{ {quote(dead)} = 3 }}\nbalance = "p2c"\nmax_per_host = 9\n'
            'keep_connections = 2\ntotal_timeout = "1m"\nprobe = "/photo.jpg"\n'
            'probe_interval = "50ms"\nprobe_timeout = "1s"\n'
            f'script_filename = {quote(php.script.filename)}\n[[site]]\norigin = "app"\n'
        )
        with node(tmp_path, configuration) as edge:
            for name in ("photo", "tall", "photo.jpg?w=220"):
                target = f"/{name}" if "?" in name else f"/{name}.jpg"
                assert edge.get(target).status == 200, target

            def number(name: str, **labels: str) -> float:
                text = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
                return edge.metrics()[f"halftone_origin_{name}{{{text}}}"]

            backup = {"origin": "app", "host": str(php.address)}
            until(
                lambda: number("host_checks_total", **backup, result="passed") > 3,
                "the backup is checked",
            )
            until(
                lambda: number("host_checks_total", origin="app", host=str(dead), result="failed"),
                "the dead host is checked",
            )
            assert number("host_limit", **backup) == 9
            assert number("connections_total", origin="app", kind="reused") > 0
            assert number("hosts", origin="app", state="held") == 1
            assert number("fetches_total", origin="app", result="answered") == 2
            assert number("retries_total", origin="app") <= 1  # where no check came before
