"""Numbers of /metrics, read and summed up."""

import pytest

from edge.summary import parse_metrics, summary

TEXT = r"""# TYPE halftone_requests_total counter
halftone_requests_total{status="200"} 1.2345e+04
halftone_requests_total{status="404"} 5.0
halftone_cache_memory_bytes 1.5728640e+06
halftone_index_degraded 1.0
halftone_hit_ratio{kind="bytes"} 0.25
halftone_purges_total{act="purge"} 3.0
halftone_purges_total{act="lift"} 0.0
halftone_downstream_urls_total{cache="http://squid:80",result="told"} 4.0
halftone_downstream_urls_total{cache="http://other:80",result="told"} 5.0
halftone_downstream_urls_total{cache="http://squid:80",result="failed"} 1.0
halftone_downstream_pending 2.0
halftone_odd{label="a \"quoted\" one"} NaN
nonsense
halftone_broken{ 1
halftone_requests_total{status="500"} many
"""


def test_the_table():
    lines = {line.name: line.text for line in summary(parse_metrics(TEXT))}
    assert lines == {
        "requests": "12 350",
        "hit ratio, bytes": "25.0 %",
        "memory in use": "1.5 MiB",
        "index": "does not answer",
        "purges, purge": "3",
        "told caches in front": "9",
        "not told": "1",
        "still to be told": "2",
    }


@pytest.mark.parametrize("text", ["", "\n\n", "#", "a", "x{} 1"])
def test_what_has_no_numbers_of_ours(text):
    assert summary(parse_metrics(text)) == []


def test_labels():
    (sample,) = parse_metrics(r'a{b="c",d="e\"f"} 1')
    assert sample.labels == {"b": "c", "d": r"e\"f"}
