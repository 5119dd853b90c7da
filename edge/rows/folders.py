"""The folders of the cache."""

from collections.abc import Sequence

from cache.folders import Folders
from edge.metrics import Counter, Gauge, Row, single


def folder_rows(folders: Folders) -> Sequence[Row]:
    """How the folders of the cache are; they are the same ones for all workers of a node."""
    return (
        Gauge(
            "halftone_cache_folders",
            "Folders of the cache by whether they are in use, counted by each worker.",
            ("state",),
            lambda: (
                (("enabled",), sum(not why for _, why in folders.states())),
                (("disabled",), sum(bool(why) for _, why in folders.states())),
            ),
        ),
        Counter(
            "halftone_cache_folder_changes",
            "Folders that were given up because of their errors, that came back, or that were"
            " gone and made anew.",
            ("change",),
            lambda: (
                (("lost",), folders.losses),
                (("recovered",), folders.recoveries),
                (("remade",), folders.stats.remade),
            ),
        ),
        Counter(
            "halftone_cache_disk_errors",
            "What the disk refused, by doing, and files that were not what they should be.",
            ("kind",),
            lambda: tuple(
                ((kind,), getattr(folders.stats, kind))
                for kind in ("read_errors", "write_errors", "no_space", "damaged", "newer")
            ),
        ),
        Counter(
            "halftone_cache_pauses",
            "Times that nothing was stored for a while because the disk was full.",
            (),
            single(lambda: folders.stats.pauses),
        ),
        Counter(
            "halftone_cache_paused_fills",
            "Answers that were not stored because of such a pause.",
            (),
            single(lambda: folders.stats.paused),
        ),
        Counter(
            "halftone_cache_scrubbed_bytes",
            "Bytes on disk that the scrubber has compared with their hashes.",
            (),
            single(lambda: folders.stats.scrubbed_bytes),
        ),
    )
