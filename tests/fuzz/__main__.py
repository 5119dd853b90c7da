"""Coverage-guided fuzzing of what reads foreign bytes: `make fuzz`, a minute in all.

    python -m tests.fuzz [SECONDS]           every target, each for its share of the time
    python -m tests.fuzz SECONDS TARGET      one target, in this process

What the engine (atheris, which is libFuzzer) found worth keeping stays in var/fuzz/TARGET, and the
next run begins there. Exit status: 0 nothing was found, 1 something was; the input that breaks a
target lies in var/fuzz, named by the message.
"""

import subprocess
import sys
from pathlib import Path

SECONDS = 60
FOLDER = Path("var/fuzz")
# A start takes a second or two and is not counted as fuzzing; beyond it the engine has hung.
GRACE_S = 30
MAX_INPUT_BYTES = 4096
INPUT_S = 5  # one input that takes longer is a finding
MEMORY_MIB = 1024


def main(arguments: list[str]) -> int:
    seconds = int(arguments[0]) if arguments else SECONDS
    if len(arguments) > 1:
        fuzz(arguments[1], seconds)
        return 0
    from tests.fuzz.targets import TARGETS

    share = max(1, seconds // len(TARGETS))
    has_found = False
    for name in TARGETS:
        print(f"fuzzing {name} for {share} s", flush=True)
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "tests.fuzz", str(share), name],
                timeout=share + GRACE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"{name}: did not end", flush=True)
            has_found = True
        else:
            has_found = has_found or ended.returncode != 0
    return int(has_found)


def fuzz(name: str, seconds: int) -> None:
    """Ends the process."""
    import atheris

    with atheris.instrument_imports(include=["edge"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    corpus = FOLDER / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup(
        [
            "halftone",
            str(corpus),
            f"-max_total_time={seconds}",
            f"-max_len={MAX_INPUT_BYTES}",
            f"-timeout={INPUT_S}",
            f"-rss_limit_mb={MEMORY_MIB}",
            f"-artifact_prefix={FOLDER}/{name}-",
            "-print_final_stats=1",
            "-verbosity=0",
        ],
        target.run,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
