"""The targets of `make fuzz` hold for their seeds, and for what a second of hypothesis finds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    target = TARGETS[name]
    target.run(b"")
    for seed in target.seeds:
        for first in (seed[:1], b"\0", b"\1", b"\xff"):
            for end in range(1, len(seed) + 1):
                target.run(first + seed[1:end])


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_spoiled_seeds(name: str, data: st.DataObject) -> None:
    seed = bytearray(data.draw(st.sampled_from(TARGETS[name].seeds)))
    for at, byte in data.draw(
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6)
    ):
        seed[at % len(seed)] = byte
    TARGETS[name].run(bytes(seed) + data.draw(st.binary(max_size=40)))
