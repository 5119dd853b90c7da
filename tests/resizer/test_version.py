"""The encoder version stands for the codecs and for our settings."""

import hashlib
import subprocess
import sys

from resizer import encode, pipeline, sharpness, version


def test_settings_move_the_revision() -> None:
    """After a change of settings: raise SETTINGS_REVISION, then write the new digest here."""
    settings = repr(
        (
            sorted((name.value, repr(setting)) for name, setting in encode.SETTINGS.items()),
            encode.SMALL_PIXELS,
            (encode.LEAST_QUALITY, encode.MAX_ATTEMPTS, encode.SAMPLES, encode.SAMPLE_SIDE),
            (sharpness.REDUCED, sharpness.SIGMA),
            pipeline.FINE,
            pipeline.COARSE,
            pipeline.FINE_PIXELS,
        )
    )
    digest = hashlib.sha256(settings.encode()).hexdigest()[:16]
    assert (version.SETTINGS_REVISION, digest) == (2, "5eecef2ca73a6167")


def test_known_without_a_codec() -> None:
    code = "import sys, resizer.version as v; print(v.encoder_version(), 'PIL' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert said.stdout == f"{version.encoder_version()} False\n"
    assert version.encoder_version().endswith(f"-{version.SETTINGS_REVISION}")


def test_the_edges_side_loads_no_codec() -> None:
    code = "import sys, resizer.pool, resizer.probe; print('PIL' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert said.stdout == "False\n"
