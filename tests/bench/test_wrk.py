"""wrk's report, and what of it is believed."""

import json
from dataclasses import asdict, replace

import pytest

from tests.bench.wrk import Pool, Report, WrkError, check_report, command, parse_report

GOOD = Report(
    requests=1000,
    bytes=6_300_000,
    duration_us=2_000_000,
    connect=0,
    read=0,
    write=0,
    status=0,
    timeout=0,
    p50_us=700,
    p99_us=1500,
    p999_us=2500,
)
LINE = f"=report {json.dumps(asdict(GOOD))}"
TEXT = f"Running 2s test @ http://127.0.0.1:8080/\n  1000 requests in 2.00s\n{LINE}\n"


def test_report_among_wrk_own_words() -> None:
    assert parse_report(TEXT) == GOOD
    assert GOOD.rps == 500
    assert GOOD.errors == 0


UNREADABLE = [
    "",
    "1000 requests in 2.00s\n",
    LINE[:-1],
    f"{LINE}\n{LINE}\n",
    " " + LINE,
    "=report []",
    "=report 7",
    "=report {}",
    LINE.replace('"requests": 1000, ', ""),
    LINE.replace('"requests"', '"more": 1, "requests"'),
    LINE.replace("1000,", '"1000",'),
    LINE.replace("1000,", "-1000,"),
    LINE.replace("1000,", "1000.5,"),
    LINE.replace("1000,", "nan,"),
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_unreadable_reports(text: str) -> None:
    with pytest.raises(WrkError):
        parse_report(text)


def test_a_good_report_is_believed() -> None:
    check_report(GOOD, 5973)
    check_report(GOOD, 6300)


DOUBTED = [
    (replace(GOOD, connect=1), "connect 1"),
    (replace(GOOD, read=2), "read 2"),
    (replace(GOOD, write=3), "write 3"),
    (replace(GOOD, status=4), "status 4"),
    (replace(GOOD, timeout=5), "timeout 5"),
    (replace(GOOD, bytes=5_972_999), "5973 bytes of body"),
    (replace(GOOD, bytes=0, requests=0), "nothing"),
    (replace(GOOD, duration_us=0), "nothing"),
]


@pytest.mark.parametrize(("report", "words"), DOUBTED)
def test_a_report_with_errors_is_no_measurement(report: Report, words: str) -> None:
    with pytest.raises(WrkError, match=words):
        check_report(report, 5973)


def test_command() -> None:
    plain = command("http://h/", 64, 4, None)
    assert plain[:4] == ["wrk", "-t1", "-c64", "-d4s"]
    assert plain[-1] == "http://h/"
    assert command("http://h/", 1, 0.2, Pool("p"))[-3:] == ["--", "p", "cycle"]
    assert command("http://h/", 1, 0.2, Pool("p", 7))[-4:] == ["--", "p", "random", "7"]
    assert "-d1s" in command("http://h/", 1, 0.2, None)  # wrk knows no shorter run
