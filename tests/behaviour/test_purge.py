"""Purges as operators see them: a whole node, and a real Squid in front where that is the point.

Most tests share one node, for a start takes its time; each has pictures of its own.
"""

import contextlib
import io
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from edge import cli
from tests.peers.application import application, picture
from tests.peers.node import Node, Reply, ask, node, quote, until
from tests.peers.ports import free_port
from tests.peers.squid import PROGRAM, SITE, squid

OPEN = "open.example.org"  # its purge_from has this machine


def targets_of(name: str) -> list[str]:
    """name.jpg itself, and derivatives in several grammars."""
    return [
        f"/{name}.jpg",
        f"/thumb/{name}.jpg/220px-{name}.jpg",
        f"/vi/{name}/hqdefault.jpg",
        f"/{name}.jpg?w=250",
        f"/{name}.jpg?w=250&fm=webp",
    ]


@pytest.fixture(scope="module")
def docroot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docroot")
    for year in ("2019", "2020"):
        (folder / year).mkdir()
    return folder


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory, docroot: Path) -> Iterator[Node]:
    configuration = site(docroot) + site(
        docroot, f'hosts = ["{OPEN}"]\npurge_from = ["127.0.0.1"]\n'
    )
    with node(tmp_path_factory.mktemp("edge"), configuration) as started:
        yield started


@pytest.fixture
def paint(docroot: Path) -> Callable[[str, str], None]:
    """Other bytes under the same name, as an application replaces a picture: by rename."""

    def paint(name: str, colour: str = "red") -> None:
        new = docroot / "new"
        Image.new("RGB", (1600, 900), colour).save(new, "JPEG")
        new.replace(docroot / name)

    return paint


def site(docroot: Path, more: str = "") -> str:
    return f"[[site]]\nroot = {quote(docroot)}\n{more}\n"


def purge(edge: Node, target: str, **fields: str) -> Reply:
    return ask(edge.admin, target, "PURGE", {k.replace("_", "-"): v for k, v in fields.items()})


def told(reply: Reply) -> dict[str, object]:
    assert reply.status == 200, reply.body
    answer: dict[str, object] = json.loads(reply.body)
    return answer


def test_all_derivatives_of_an_original_by_any_of_its_urls(edge, paint):
    targets = targets_of("all")
    paint("all.jpg")
    for by, colour in zip(targets, ("green", "blue", "white", "black", "yellow"), strict=True):
        before = {target: edge.get(target) for target in targets}
        assert {reply.status for reply in before.values()} == {200}
        assert all(edge.get(target).is_hit for target in targets)
        paint("all.jpg", colour)
        answer = told(purge(edge, by))
        assert answer["purged"] >= 4  # the derivatives
        assert (answer["scope"], answer["act"]) == ("node", "purge")
        for target in targets:
            after = edge.get(target)
            assert after.status == 200
            assert after.body != before[target].body
            assert after.headers["etag"] != before[target].headers["etag"]
            if target != targets[0]:  # a file is nobody's miss
                assert not after.is_hit
    assert edge.metrics()['halftone_purges_total{act="purge"}'] >= len(targets)


def test_a_purge_needs_no_change(edge, paint):
    paint("same.jpg")
    # Ready to leave, and from the fast path, before it is purged.
    for _ in range(6):
        first = edge.get("/same.jpg?w=250")
    renders = edge.renders()
    told(purge(edge, "/same.jpg"))
    again = edge.get("/same.jpg?w=250")
    assert not again.is_hit
    assert edge.renders() == renders + 1
    assert again.body == first.body  # of the same original, in the same way
    assert told(purge(edge, "/nothing.jpg"))["purged"] == 0


def test_a_dry_run(edge, paint):
    paint("dry.jpg")
    edge.get("/dry.jpg?w=250")
    answer = told(purge(edge, "/dry.jpg", dry_run="1"))
    assert (answer["dry_run"], answer["purged"], answer["seq"]) == (True, 1, 0)
    assert edge.get("/dry.jpg?w=250").is_hit


def test_soft(edge, paint):
    target = "/soft.jpg?w=250"
    paint("soft.jpg")
    edge.get(target)
    renders = edge.renders()
    assert told(purge(edge, target, soft_purge="1"))["act"] == "soften"
    assert edge.get(target).status == 200
    assert edge.renders() == renders  # validated, and found the same
    paint("soft.jpg", "green")
    told(purge(edge, target, fastly_soft_purge="1"))
    # The old one may be sent once more, while the new one is made.
    until(lambda: edge.get(target).status != 200 or edge.renders() > renders, "new")
    assert edge.renders() == renders + 1


def test_by_prefix(edge, paint):
    for name in ("2019/one.jpg", "2019/two.jpg", "2020/one.jpg", "beside.jpg"):
        paint(name)
    inside = ["/2019/one.jpg?w=250", "/thumb/2019/two.jpg/220px-two.jpg"]
    outside = ["/2020/one.jpg?w=250", "/beside.jpg?w=250"]
    for target in inside + outside:
        assert edge.get(target).status == 200
    told(purge(edge, "/", purge_prefix="/2019/"))
    assert [edge.get(target).is_hit for target in inside] == [False, False]
    assert [edge.get(target).is_hit for target in outside] == [True, True]
    # What was made since is nobody's to throw away again.
    assert [edge.get(target).is_hit for target in inside] == [True, True]


def test_by_tag(tmp_path):
    out = io.BytesIO()
    Image.new("RGB", (1600, 900), "red").save(out, "JPEG")
    with application() as app:
        for name, tags in {"a": "dune desert", "b": "desert", "c": "sea"}.items():
            app.answers[f"/{name}.jpg"] = picture(
                out.getvalue(), f'"{name}"', "max-age=600", f"Surrogate-Key: {tags}"
            )
        targets = ["/a.jpg?w=250", "/b.jpg?w=250", "/c.jpg?w=250"]
        with node(tmp_path, f'{app.configuration}[[site]]\norigin = "app"\n') as edge:
            for target in targets:
                assert edge.get(target).status == 200
            told(purge(edge, "/", surrogate_key="sky dune"))
            assert [edge.get(target).is_hit for target in targets] == [False, True, True]
            told(purge(edge, "/", surrogate_key="desert"))
            assert [edge.get(target).is_hit for target in targets] == [False, False, True]


def test_takedown_and_lift(edge, paint):
    targets = targets_of("law")
    for name in ("law.jpg", "order.jpg"):
        paint(name)
    for target in targets:
        edge.get(target)
    assert told(purge(edge, targets[1], takedown="1"))["act"] == "take-down"
    for target in targets:
        reply = edge.get(target)
        assert (reply.status, reply.headers["cache-control"]) == (451, "no-store")
        assert b"unavailable for legal reasons" in reply.body
    assert edge.get("/order.jpg?w=250").status == 200
    assert told(purge(edge, "/law.jpg", takedown="lift"))["act"] == "lift"
    assert {edge.get(target).status for target in targets} == {200}


def test_a_takedown_outlives_a_restart(tmp_path, docroot, paint):
    paint("gone.jpg")
    with node(tmp_path, site(docroot)) as before:
        told(purge(before, "/gone.jpg", takedown="1"))
    with node(tmp_path, site(docroot)) as after:
        assert after.get("/gone.jpg?w=250").status == 451
        assert after.get("/gone.jpg").status == 451


@pytest.mark.parametrize(
    ("target", "fields", "status"),
    [
        ("/photo.jpg", {"takedown": "1", "soft_purge": "1"}, 400),
        ("/", {}, 400),
        ("/photo.jpg?w=0", {}, 400),
    ],
)
def test_what_is_no_purge(edge, target, fields, status):
    assert purge(edge, target, **fields).status == status


# ---- the public listener ------------------------------------------------------------------------


def test_the_public_listener_is_closed_by_default(edge, paint):
    paint("closed.jpg")
    for _ in range(6):
        edge.get("/closed.jpg?w=250")
    for fields in ({}, {"X-Forwarded-For": "127.0.0.1"}):
        reply = edge.get("/closed.jpg?w=250", "PURGE", fields)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert edge.get("/closed.jpg?w=250").is_hit
    assert edge.get("/closed.jpg", "OPTIONS").headers["allow"] == "GET, HEAD, OPTIONS"


def test_purge_from(edge, paint):
    host = {"Host": OPEN}
    paint("open.jpg")
    for _ in range(6):
        edge.get("/open.jpg?w=250", headers=host)
    allow = edge.get("/open.jpg", "OPTIONS", host).headers["allow"]
    assert allow == "GET, HEAD, OPTIONS, PURGE"
    reply = edge.get("/open.jpg?w=250", "PURGE", host)
    assert told(reply)["purged"] == 1
    assert reply.headers["x-request-id"] == told(reply)["id"]
    assert not edge.get("/open.jpg?w=250", headers=host).is_hit
    for fields in ({"Takedown": "1"}, {"Purge-Prefix": "/"}, {"Dry-Run": "1"}):
        assert edge.get("/open.jpg", "PURGE", {**host, **fields}).status == 400


def test_purge_from_behind_a_trusted_proxy(tmp_path, docroot):
    head = 'trusted_proxies = ["127.0.0.1"]\n'
    configuration = head + site(docroot, 'purge_from = ["192.0.2.7", "127.0.0.1"]')
    with node(tmp_path, configuration) as edge:
        statuses = {
            name: edge.get("/photo.jpg", "PURGE", fields).status
            for name, fields in {
                "named": {"X-Forwarded-For": "192.0.2.7"},
                "another": {"X-Forwarded-For": "192.0.2.8"},
                "to the left of another": {"X-Forwarded-For": "192.0.2.7, 192.0.2.8"},
                "hidden by the proxy": {"X-Forwarded-For": "unknown"},
                "through the proxy": {"Via": "1.1 squid"},
                "the proxy itself": {},
            }.items()
        }
    assert statuses == {
        "named": 200,
        "another": 405,
        "to the left of another": 405,
        "hidden by the proxy": 405,
        "through the proxy": 405,
        "the proxy itself": 200,
    }


# ---- caches in front ----------------------------------------------------------------------------


@contextlib.contextmanager
def farm(folder: Path, docroot: Path, scheme: str) -> Iterator[tuple[Node, str]]:
    """A node and a Squid in front of it. Each must know the other's address beforehand."""
    ports = {"http": free_port(), "htcp": free_port(socket.SOCK_DGRAM)}
    head = f'downstream = ["{scheme}://127.0.0.1:{ports[scheme]}"]\n'
    # So that URLs are told as https, too, which this Squid has never heard of.
    head += 'trusted_proxies = ["127.0.0.1"]\n'
    more = (
        f"htcp_port {ports['htcp']}\nudp_incoming_address 127.0.0.1\n"
        "htcp_access allow all\nhtcp_clr_access allow all\n"
        f"http_port 127.0.0.1:{ports['http']} accel defaultsite={SITE} no-vhost name=purges\n"
    )
    with node(folder, head + site(docroot)) as edge, squid(edge.public, more) as front:
        yield edge, front.public


def is_squids_hit(reply: Reply) -> bool:
    return reply.headers["x-cache"].startswith("HIT")


@pytest.mark.skipif(PROGRAM is None, reason="squid is not installed")
@pytest.mark.parametrize("scheme", ["http", "htcp"])
def test_one_purge_empties_squid_of_every_spelling(tmp_path, docroot, paint, scheme):
    name = f"squid-{scheme}"
    targets = targets_of(name)
    for picture_name in (f"{name}.jpg", "stays.jpg"):
        paint(picture_name)
    with farm(tmp_path, docroot, scheme) as (edge, front):
        for target in targets:
            ask(front, target)
            assert is_squids_hit(ask(front, target)), target
        ask(front, "/stays.jpg?w=250")
        paint(f"{name}.jpg", "green")
        answer = told(ask(edge.admin, f"/{name}.jpg", "PURGE", {"Host": SITE}))
        assert answer["downstream"] == {"told": answer["urls"], "failed": 0, "pending": 0}
        assert answer["urls"] >= 2 * len(targets)
        for target in targets:
            assert not is_squids_hit(ask(front, target)), target
        assert is_squids_hit(ask(front, "/stays.jpg?w=250"))
        numbers = edge.metrics()
        series = [one for one in numbers if one.startswith("halftone_downstream_urls_total")]
        assert sum(numbers[one] for one in series) == answer["urls"]
        assert numbers["halftone_downstream_pending"] == 0


def test_a_cache_in_front_that_is_down_does_not_fail_the_purge(tmp_path, docroot, paint):
    paint("down.jpg")
    head = f'downstream = ["http://127.0.0.1:{free_port()}"]\n'
    with node(tmp_path, head + site(docroot)) as edge:
        edge.get("/down.jpg?w=250")
        answer = told(purge(edge, "/down.jpg"))
        counts = answer["downstream"]
        assert isinstance(counts, dict)
        assert (counts["told"], counts["pending"]) == (0, answer["urls"])
        assert not edge.get("/down.jpg?w=250").is_hit
        # Before its retries are over: the node ends all the same, and says what was not told.
    assert any("is not told of" in line for line in edge.log)


# ---- the command --------------------------------------------------------------------------------


def test_halftone_purge_and_stats(edge, paint):
    paint("command.jpg")
    edge.get("/command.jpg?w=250")
    result = CliRunner().invoke(cli.main, ["purge", "/command.jpg", "--admin", edge.admin])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("purged /command.jpg: 1 entry on this node")
    assert not edge.get("/command.jpg?w=250").is_hit
    result = CliRunner().invoke(cli.main, ["stats", "--admin", edge.admin])
    assert result.exit_code == 0
    assert "misses" in result.stdout
