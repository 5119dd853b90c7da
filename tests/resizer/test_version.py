"""The encoder version stands for the codecs and for our settings."""

import hashlib
import subprocess
import sys

from resizer import (
    attention,
    blurhash,
    effects,
    encode,
    pipeline,
    placeholder,
    sharpness,
    version,
)


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
    assert (version.SETTINGS_REVISION, digest) == (3, "5eecef2ca73a6167")


def test_settings_of_looks_move_the_revision() -> None:
    """After a change of these: raise SETTINGS_REVISION, then write the new digest here."""
    names = (
        (effects, ("CORNER_SAMPLES", "SHARPEN_RADIUS", "GROUND_SIDE", "GROUND_BLUR")),
        (attention, ("SIDE", "SAMPLES", "EDGES", "SKIN", "SATURATION", "CENTRED")),
        (placeholder, ("STAND_INS", "PREVIEW_QUALITY")),
        (blurhash, ("TERMS",)),
    )
    settings = repr([getattr(module, name) for module, parts in names for name in parts])
    assert hashlib.sha256(settings.encode()).hexdigest()[:16] == "1b208552d6196d75"


def test_known_without_a_codec() -> None:
    code = "import sys, resizer.version as v; print(v.encoder_version(), 'PIL' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert said.stdout == f"{version.encoder_version()} False\n"
    assert version.encoder_version().endswith(f"-{version.SETTINGS_REVISION}")


def test_the_edges_side_loads_no_codec() -> None:
    code = "import sys, resizer.pool, resizer.probe; print('PIL' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert said.stdout == "False\n"
