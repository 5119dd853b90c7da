"""The farm's files agree with each other, and with the node that they are for."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.config import load
from tests.metrics_page import PAGE
from tests.peers.squid import PROGRAM


@pytest.fixture
def deploy(repository: Path) -> Path:
    return repository / "deploy"


def peers(deploy: Path) -> list[tuple[str, str, str]]:
    """Host, port and name= of each cache_peer, in order."""
    text = (deploy / "squid" / "squid.conf").read_text()
    return re.findall(r"^cache_peer (\S+) parent (\d+) .*\bname=(\S+)", text, re.MULTILINE)


def services(repository: Path) -> list[str]:
    text = (repository / "docker-compose.yml").read_text()
    body = text.partition("\nservices:\n")[2].partition("\nnetworks:\n")[0]
    return re.findall(r"^  ([a-z0-9-]+):$", body, re.MULTILINE)


def test_an_edge_takes_its_configuration(deploy):
    config = load(
        str(deploy / "halftone-farm.toml"), {"HALFTONE__NAME": "edge2"}, {}, is_checked=False
    )
    assert config.name == "edge2"
    (origin,) = config.origins
    (site,) = config.sites
    assert site.origin == origin.name
    assert not site.hosts
    # What the origin's image has where the configuration says.
    assert "COPY index.php ping.php /srv/app/" in (deploy / "origin" / "Dockerfile").read_text()
    assert origin.script_filename == "/srv/app/index.php"


def test_squid_closes_idle_connections_before_the_edges_do(deploy):
    config = load(str(deploy / "halftone-farm.toml"), {}, {}, is_checked=False)
    text = (deploy / "squid" / "squid.conf").read_text()
    match = re.search(r"^server_idle_pconn_timeout (\d+) seconds$", text, re.MULTILINE)
    assert match is not None
    assert int(match[1]) + 10 <= config.connection.idle


def test_edges_tell_the_port_of_squid_that_takes_purges(repository, deploy):
    config = load(str(deploy / "halftone-farm.toml"), {}, {}, is_checked=False)
    (squid,) = config.downstream
    assert str(squid) == "http://squid:3129"
    assert squid.address.host in services(repository)
    text = (deploy / "squid" / "squid.conf").read_text()
    assert re.search(rf"^http_port {squid.address.port} .*name=purges$", text, re.MULTILINE)
    assert "\nhttp_access allow purges PURGE\nhttp_access deny purges\n" in text
    # Longer than other edges may not have heard of a purge.
    assert config.downstream_again > 1


def test_squid_prometheus_and_compose_name_the_same_edges(repository, deploy):
    edges = [name for name in services(repository) if name.startswith("edge")]
    assert edges == ["edge1", "edge2"]
    assert peers(deploy) == [(name, "8080", name) for name in edges]
    scraped = re.findall(r'"(edge\d+):8081"', (deploy / "prometheus/prometheus.yml").read_text())
    assert scraped == edges


def test_every_service_has_a_health_check(repository):
    text = (repository / "docker-compose.yml").read_text()
    for name in services(repository):
        block = re.search(rf"^  {name}:\n((?:    .*\n|\n)+)", text, re.MULTILINE)
        assert block is not None
        # The edges inherit theirs; gallery ends by itself.
        assert "healthcheck:" in block[1] or "<<: *edge" in block[1] or name == "gallery", name


@pytest.mark.skipif(PROGRAM is None, reason="squid is not installed")
def test_squid_takes_its_configuration_without_a_warning(deploy):
    assert PROGRAM is not None
    command = [PROGRAM, "-k", "parse", "-n", "parse", "-f", str(deploy / "squid" / "squid.conf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert not re.search("WARNING|ERROR|FATAL", done.stderr), done.stderr


def test_alerts_and_dashboard_ask_for_metrics_that_exist(repository, deploy):
    files = [deploy / "prometheus/alerts.yml", deploy / "grafana/dashboards/halftone.json"]
    asked = {
        name for file in files for name in re.findall(r"\bhalftone_[a-z_]+\b", file.read_text())
    }
    # Which is true of itself (test_metrics_page.py), and does not depend on a node's settings.
    known = set(re.findall(r"`(halftone_[a-z_]+)`", (repository / PAGE).read_text()))
    assert asked
    assert asked <= known


def test_the_dashboard_has_no_panel_twice_and_every_panel_explains_itself(deploy):
    panels = json.loads((deploy / "grafana/dashboards/halftone.json").read_text())["panels"]
    for attribute in ("id", "title"):
        assert len({panel[attribute] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels)


@pytest.mark.parametrize("script", ["deploy/try-farm", "deploy/squid/health"])
def test_scripts_parse(repository, script):
    shell = "bash" if "bash" in (repository / script).read_text().splitlines()[0] else "sh"
    program = shutil.which(shell)
    assert program is not None
    subprocess.run([program, "-n", str(repository / script)], check=True, timeout=10)
