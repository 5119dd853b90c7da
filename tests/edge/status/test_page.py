"""The page: what it says, that it is well-formed, and that nothing in it loads, runs or lies."""

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser

import pytest

from edge.counts import Counts
from edge.status.markup import VOID
from edge.status.names import FOLDER_WORKERS
from edge.status.page import PACES, count, duration, moment, page, percent, rate, seconds, size
from edge.status.reading import Facts, OriginFacts, Verdicts, read
from edge.status.style import POLICY, SHEET
from tests.edge.status.numbers import FACTS, NOW, host, status_of, worker

HOSTILE = "<script>alert(1)</script>\"' onload=x \u202e&amp;\x1b[2J"


class Reader(HTMLParser):
    """Its words as a text browser shows them; every tag is closed, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def hostile() -> tuple[Counts, Facts]:
    counts = worker(hosts=(HOSTILE,))
    host(counts, HOSTILE, "held", origin=HOSTILE)
    host(counts, HOSTILE, HOSTILE, origin=HOSTILE + "2")
    for table in (counts.growing, counts.momentary):
        for name, *labels in list(table):
            if labels:
                table[name, *labels[:-1], HOSTILE] = 7.0
                table[(name, *(HOSTILE for _ in labels))] = 7.0
    counts.momentary[FOLDER_WORKERS, HOSTILE, HOSTILE] = 1.0
    facts = dataclasses.replace(
        FACTS,
        **dict.fromkeys(("name", "version", "configuration", "index", "sandbox"), HOSTILE),
        origins={HOSTILE: OriginFacts(HOSTILE, HOSTILE, HOSTILE)},
    )
    return counts, facts


def hostile_page() -> str:
    counts, facts = hostile()
    said = Verdicts([HOSTILE], [HOSTILE], [HOSTILE])
    return page(status_of(counts, facts=facts, verdicts=said))


def test_what_it_says():
    one, other = worker(0, 10), worker(1, 11)
    host(other, "php1:9000", "held", held_s=4.2)
    text = Reader(page(status_of(one, other))).text
    for part in (
        "edge1 serving, with warnings",
        "halftone 1.2.3 · up 1 d 3 h · since 2023-11-13 18:28:20 UTC · 2 workers",
        "Warning: origin app: held down: php1:9000",
        "requests a second 30.5 over the last minute",
        "hits, in pictures 90.9 % last minute; 80.0 % since the start",
        "hits, in work – none lately; – since the start",
        "renders waiting 10 of 128",
        "app fastcgi · least-connection · probed by /health",
        "php1:9000 weight 2 ● running in 1 worker ▲ held in 1 worker, 4 s more held: worker 1,",
        "php2:9000 weight 2 ● running 6 of 64",
        "25.0 ms 222 refused 10 8 abandoned by us 12 times 140 passed, 14 failed",
        "retries 44, 127 of 128 saved for more · turned away 46",
        "bodies that broke off: resumed 48",
        "/var/cache/halftone 6.0 GiB of 100.0 GiB · 60 000 of 4 000 000 files",
        "memory: pictures 10.0 MiB of 256.0 MiB",
        "redis://:***@redis:6379/0: answers",
        "newest order heard of 1700000040000, 1 min ago",
        "http://squid1:3128 280 32",
        "still to be told: 36 of 200 000",
        "landlock ABI 7, seccomp, rlimits",
        "processes idle 4, busy 2 of 8",
        "0.0.0.0:8080 (public) 40 of 20 000",
        "worker 1 pid 11 serving",
    ):
        assert part in text, part


def test_what_is_wrong_stands_before_all_numbers():
    counts = worker()
    host(counts, "php1:9000", "held")
    host(counts, "php2:9000", "held")
    text = Reader(page(status_of(counts))).text
    assert text.index("Problem: origin app") < text.index("requests a second")
    assert "in trouble" in text.split("halftone")[0]


def test_a_node_with_nothing_to_say():
    text = Reader(page(read(Counts(), (), FACTS, Verdicts(), NOW))).text
    assert "No site asks one." in text


def test_nothing_hostile_leaves_the_text():
    html = hostile_page()
    reader = Reader(html)
    assert "<script" not in html.lower()
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert reader.text.count("<script>alert(1)</script>") > 20  # as text
    ours = Reader(page(status_of(worker())))
    assert {tag for tag, _ in reader.tags} <= {tag for tag, _ in ours.tags} | {"strong", "ul", "li"}
    names = {name for _, attributes in reader.tags for name in attributes}
    assert names <= {
        "lang", "charset", "name", "content", "class", "scope", "data-label", "href",
        "min", "max", "low", "high", "optimum", "value", "title",
    }  # fmt: skip
    own = re.compile(r"/(metrics|status\.json|healthz|readyz|\?refresh=\d+)?")
    assert all(own.fullmatch(a["href"] or "") for _, a in reader.tags if "href" in a)


@pytest.mark.parametrize("html", [page(status_of(worker())), hostile_page()])
def test_it_loads_and_runs_nothing(html):
    tags = {tag for tag, _ in Reader(html).tags}
    assert not tags & {"script", "img", "iframe", "link", "object", "embed", "form", "base", "svg"}
    assert "url(" not in SHEET
    assert "@import" not in SHEET
    assert "</" not in SHEET


def test_the_policy_names_the_sheet_that_is_sent():
    sent = re.search(r"<style>(.*?)</style>", page(status_of(worker())), re.DOTALL)
    assert sent is not None
    digest = base64.b64encode(hashlib.sha256(sent[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert "default-src 'none'" in POLICY
    assert "frame-ancestors 'none'" in POLICY
    assert POLICY.isprintable()


@pytest.mark.parametrize(
    ("pace_s", "is_renewed"), [(None, False), (5, True), (30, True), (1, False)]
)
def test_it_is_renewed_where_that_is_asked_for(pace_s, is_renewed):
    html = page(status_of(worker()), pace_s)
    assert (f'http-equiv="refresh" content="{pace_s}"' in html) == is_renewed
    assert ('href="/"' in html) == is_renewed
    assert len(re.findall("refresh=", html)) == len(PACES) - is_renewed


# (how it is written, number, text)
WRITTEN = [
    (count, 0.0, "0"),
    (count, 999.4, "999"),
    (count, 12_345_678.0, "12 345 678"),
    (rate, 0.0, "0.0"),
    (rate, 99.94, "99.9"),
    (rate, 1234.5, "1 234"),
    (percent, None, "–"),
    (percent, 0.0, "0.0 %"),
    (percent, 0.57, "57.0 %"),
    (percent, 0.9999, "99.9 %"),
    (percent, 1.0, "100 %"),
    (size, 0.0, "0 B"),
    (size, 1023.0, "1023 B"),
    (size, 1024.0, "1.0 KiB"),
    (size, 50 * 2.0**30, "50.0 GiB"),
    (size, 5e18, "4547473.5 TiB"),
    (seconds, None, "–"),
    (seconds, 0.0, "0.0 ms"),
    (seconds, 0.0994, "99.4 ms"),
    (seconds, 0.0996, "100 ms"),
    (seconds, 0.999, "999 ms"),
    (seconds, 0.9996, "1.0 s"),
    (seconds, 31.26, "31.3 s"),
    (duration, 0.0, "0 s"),
    (duration, 59.9, "59 s"),
    (duration, 60.0, "1 min"),
    (duration, 3599.0, "59 min 59 s"),
    (duration, 3600.0, "1 h"),
    (duration, 86_400.0 * 400 + 3601, "400 d 1 h"),
    (moment, 0.0, "1970-01-01 00:00:00 UTC"),
    (moment, 1e18, "–"),
    (moment, float("inf"), "–"),
]


@pytest.mark.parametrize(("written", "number", "text"), WRITTEN)
def test_numbers(written, number, text):
    assert written(number) == text
