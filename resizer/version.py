"""What shapes the bytes of a derivative besides its source and transform.

Part of a derivative's ETag, so nodes that would encode differently never agree on one. Known
without loading a codec: the edge asks here and never imports Pillow.
"""

import functools
import importlib.metadata
from typing import Final

# To be raised with every change of a setting in encode.py, or of the order or the filters in
# pipeline.py, that changes bytes. A test holds the settings against this number.
SETTINGS_REVISION: Final = 3


@functools.cache
def encoder_version() -> str:
    """Pillow's version stands for the codecs inside its wheel; the revision for our settings."""
    return f"pillow-{importlib.metadata.version('pillow')}-{SETTINGS_REVISION}"
