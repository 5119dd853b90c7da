"""The resizer of a node, as the configuration says."""

import os
from collections.abc import Callable
from typing import Final

from edge.config import Config
from resizer.evidence import Evidence
from resizer.job import Limits
from resizer.pool import Pool, PoolSettings
from resizer.sandbox import SandboxMode

# Below the cache's folder, whose own folders are named by hexadecimal digits.
BARRED_FOLDER: Final = "barred"


def make_pool(config: Config, monotonic: Callable[[], float]) -> Pool:
    section = config.resizer
    sizes = [site.limits.max_source_bytes for site in config.sites]
    limits = Limits(max_pixels=section.max_pixels, max_bytes=max(sizes))
    return Pool(
        PoolSettings(
            processes=section.processes or os.cpu_count() or 1,
            deadline_s=section.deadline,
            queue=section.queue,
            limits=limits,
            sandbox=SandboxMode(section.sandbox.value),
        ),
        clock=monotonic,
        evidence=Evidence(
            os.path.join(config.cache.path, BARRED_FOLDER),
            section.keep_barred,
            section.keep_barred_bytes,
        ),
    )
