"""docs/metrics.md has every row, and says of it what the row says."""

import re
from pathlib import Path

from tests.metrics_page import PAGE, page
from tests.peers.node import node, quote


def test_the_page_is_what_the_rows_say(repository: Path) -> None:
    text = (repository / PAGE).read_text()
    assert text == page(repository), "python -m tests.metrics_page writes it anew"
    # However rows come to their names.
    for path in (repository / "edge/rows").glob("*.py"):
        for name in re.findall(r'"(halftone_[a-z_]+)"', path.read_text()):
            assert f"`{name}" in text, name


def test_a_node_tells_nothing_that_the_page_does_not_have(repository: Path, tmp_path: Path) -> None:
    text = (repository / PAGE).read_text()
    with node(tmp_path, f"[[site]]\nroot = {quote(tmp_path)}\n") as edge:
        names = {series.partition("{")[0] for series in edge.metrics()}
    assert names
    for name in names:
        assert f"`{re.sub('_(bucket|sum|count)$', '', name)}" in text, name
