"""What fsck prints of an answer, whoever gave it."""

import pytest

from edge.findings import is_clean, report, verdict

HARM = {"fault": "damaged", "path": "/c/a/3f/a3f", "detail": "hash is wrong", "mended": False}
CUT = {"fault": "uncompared", "path": "", "detail": "no answer", "mended": False}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        # usual
        ({"clean": True}, "clean"),
        ({"clean": True, "foreign": 3, "suspect": 9, "being_written": 2}, "clean"),
        ({"clean": True, "unlisted": 1}, "clean, but for 1 harmless difference"),
        (
            {"clean": True, "unlisted": 1, "missing": 2, "stale": 1000},
            "clean, but for 1,003 harmless differences",
        ),
        ({"clean": True, "damaged": 1, "removed": 1}, "clean now: 1 file removed, 0 differences"),
        ({"clean": True, "stale": 2, "mended": 2}, "clean now: 0 files removed, 2 differences"),
        # wrong
        ({"clean": False, "damaged": 2, "removed": 1}, "not clean: 1 problem left"),
        ({"clean": False, "unreadable": 2}, "not clean: 2 problems left"),
        ({"clean": False, "problems": [CUT]}, "not clean: the comparison with the index is not"),
        (
            {"clean": False, "abandoned": 1, "problems": [CUT]},
            "not clean: 1 problem left; the comparison",
        ),
        # of another version, or of nobody we know
        ({}, "not clean: see above"),
        ({"clean": 1, "damaged": "many", "problems": "none"}, "not clean: see above"),
        ({"clean": False, "problems": [1, None, "x", {}]}, "not clean: see above"),
    ],
)
def test_verdict(found: dict[str, object], said: str) -> None:
    assert verdict(found).startswith(said)
    assert report(found)[-1] == verdict(found)
    assert is_clean(found) == verdict(found).startswith("clean")


def test_what_is_wrong_stands_last_before_the_counts() -> None:
    found = {
        "files": 12_345,
        "bytes": 3 * 2**29,
        "listed": 12_000,
        "damaged": 1,
        "foreign": 1,
        "unlisted": 1,
        "missing": None,
        "clean": False,
        "others": [{"fault": "foreign", "path": "/c/x", "detail": "not ours", "mended": False}],
        "differences": [{"fault": "unlisted", "path": "a/3f/b", "mended": True}],
        "problems": [HARM],
    }
    assert report(found) == [
        "foreign: /c/x: not ours",
        "unlisted: a/3f/b (put right)",
        "damaged: /c/a/3f/a3f: hash is wrong",
        "   12,345 whole files, 1.5 GiB",
        "   12,000 of them current and known to the index",
        "        1 damaged: never served; made anew when asked for; --fix removes them",
        "        1 foreign: not made by halftone, left alone",
        "        1 unlisted: whole, and the index does not list them. Harmless; --fix lists them",
        "the index is shared: what it lists of other nodes was not looked for here",
        "not clean: 1 problem left",
    ]


def test_nothing_of_an_answer_controls_the_terminal() -> None:
    found = {"clean": False, "problems": [{"fault": "\x1b[2J", "path": "a\nb", "detail": "\x07"}]}
    assert all(line.isprintable() for line in report(found))
