"""The composition root: builds the parts from the configuration, starts and stops them in order.

The only file that knows concrete classes, the real clock, the real randomness and the environment.
"""

import asyncio
import contextlib
import importlib.metadata
import logging
import os
import platform
import random
import signal
import socket
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import uvloop

from cache.disk import Disk
from cache.flight import Flights
from cache.index.embedded import EmbeddedIndex
from cache.index.interface import Index
from cache.index.redis import RedisIndex
from cache.memory import Memory
from cache.store import Store
from edge import addresses
from edge.access import AccessLog
from edge.admin import Admin
from edge.clock import Clock
from edge.config import Config
from edge.connection import ConnectionSettings, Handler, Listener, listen
from edge.deliver import Deliverer
from edge.handler import Handler as SiteHandler
from edge.handler import Made
from edge.metrics import Counter, Exposition, Gauge, Histogram, Row, single
from edge.origin.exchange import Deadlines
from edge.origin.files import Docroot
from edge.origin.pool import OriginPool
from edge.policy.steps import OffStep, Steps
from edge.representation import Representation
from edge.site import Site, Sites
from edge.source import Node, Passed, Source, Sources
from edge.urls.grammars import Options, make_grammars
from resizer.pool import Pool, PoolSettings
from resizer.version import encoder_version

log = logging.getLogger("halftone")

# Body size up to which a representation lives in the memory tier: thumbnails do, originals do not.
MEMORY_CUTOFF: Final = 128 * 1024
# Threads for file system calls that may wait for a disk; a spinning disk gains nothing from more.
DISK_THREADS: Final = 8
# Renders and fetches under way at once, beyond what the resizer's own queue bounds.
MAX_FLIGHTS: Final = 4096
DRAIN_GRACE_S: Final = 30.0
EOF: Final = None
