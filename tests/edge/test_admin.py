"""The status page as the admin listener sends it."""

import json
from typing import Any

import pytest

from edge.admin import Admin
from edge.clock import Clock
from edge.http.messages import Request, Response
from edge.http.parser import RequestParser
from edge.status.style import POLICY
from tests.edge.status.numbers import status_of, worker


def admin(status: Any = lambda: status_of(worker())) -> Admin:
    nothing: Any = None
    return Admin(nothing, nothing, Clock(lambda: 1.7e9, lambda: 1.0), status=status)


def asked(target: str, method: str = "GET") -> Request:
    parser = RequestParser()
    parser.receive_data(f"{method} {target} HTTP/1.1\r\nHost: edge\r\n\r\n".encode())
    (request,) = parser.requests
    return request


def answer(target: str, method: str = "GET", listener: Admin | None = None) -> Response:
    listener = listener or admin()
    response = listener.receive(asked(target, method), listener.peer("127.0.0.1"))
    assert response is not None
    return response


def body_of(response: Response) -> str:
    return b"".join(bytes(part) for part in response.body).decode()  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["/", "/?refresh=5", "/?refresh=", "/?x=<script>"])
def test_the_page(target: str) -> None:
    response = answer(target)
    assert response.status == 200
    for line in (
        "Content-Type: text/html; charset=utf-8",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        f"Content-Security-Policy: {POLICY}",
        "Referrer-Policy: no-referrer",
    ):
        assert f"\r\n{line}\r\n".encode() in response.head, line
    assert f"Content-Length: {len(body_of(response).encode())}\r\n".encode() in response.head
    html = body_of(response)
    assert html.startswith("<!DOCTYPE html>")
    assert ('http-equiv="refresh"' in html) == (target == "/?refresh=5")
    assert "<script" not in html


# Queries that ask for no pace that there is.
@pytest.mark.parametrize(
    "query", ["refresh=1", "refresh=99999", "refresh=5&a", "Refresh=5", "refresh=05x", "refresh=-5"]
)
def test_paces_that_there_are_not(query: str) -> None:
    assert body_of(answer(f"/?{query}")) == body_of(answer("/"))


def test_for_scripts() -> None:
    response = answer("/status.json")
    assert b"Content-Type: application/json\r\n" in response.head
    found = json.loads(body_of(response))
    assert (found["name"], found["level"]) == ("edge1", "well")
    assert found["origins"][0]["hosts"][0]["states"] == [{"name": "running", "number": 1.0}]
    assert found["traffic"]["per_second"] == 15.25


def test_other_methods_and_paths() -> None:
    assert (answer("/", "HEAD").status, body_of(answer("/", "HEAD"))) == (200, "")
    refused = answer("/", "POST")
    assert (refused.status, b"\r\nAllow: " in refused.head) == (405, True)
    for path in ("/status", "/status.json/", "/index.html"):
        response = answer(path)
        assert response.status == 404
        assert "/status.json" in body_of(response)
    assert answer("/", listener=admin(None)).status == 404
