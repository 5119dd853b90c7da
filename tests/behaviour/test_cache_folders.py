"""A node whose cache is in several folders: one cannot be used, one is removed while it works."""

import shutil
from pathlib import Path

from tests.peers.node import node, quote

TARGETS = [f"/photo.jpg?w={width}" for width in range(100, 130, 2)]
FURTHER = [f"/photo.jpg?w={width}" for width in range(101, 131, 2)]


def test_a_node_with_several_folders(tmp_path: Path, originals: Path) -> None:
    folders = [tmp_path / name for name in ("second", "third", "broken")]
    folders[2].write_bytes(b"a file where a folder should be")
    configuration = (
        "[cache]\n"
        f"folders = [{', '.join(map(quote, folders))}]\n"
        'memory = 0\ndurability = "full"\n'
        f"[[site]]\nroot = {quote(originals)}\n"
    )
    with node(tmp_path, configuration) as edge:
        bodies = [edge.get(target).body for target in TARGETS]
        assert all(edge.get(target).is_hit for target in TARGETS)
        stored = [len(list(folder.rglob("?" * 40))) for folder in folders[:2]]
        assert all(stored)
        metrics = edge.metrics()
        assert metrics['halftone_cache_folders{state="enabled"}'] == 3
        assert metrics['halftone_cache_folders{state="disabled"}'] == 1

        shutil.rmtree(folders[0])
        assert [edge.get(target).body for target in TARGETS] == bodies
        assert all(edge.get(target).status == 200 for target in FURTHER)
        edge.wait_for("cache folder .*/second was gone; it was opened anew")
        assert all(edge.get(target).is_hit for target in FURTHER)
        assert list(folders[0].rglob("?" * 40))
        assert edge.metrics()['halftone_cache_folder_changes_total{change="remade"}'] == 1
