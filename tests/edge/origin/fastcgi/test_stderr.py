from hypothesis import given
from hypothesis import strategies as st

from edge.origin.fastcgi.stderr import MAX_LINE_BYTES, MAX_STDERR_BYTES, StderrLines


def lines_of(*pieces: bytes) -> list[str]:
    stderr = StderrLines()
    lines = [line for piece in pieces for line in stderr.receive_data(piece)]
    return lines + stderr.end() + stderr.end()


def test_lines() -> None:
    assert lines_of(b"one\ntwo\r\n\n  \nthr", b"ee") == ["one", "two", "three"]
    assert lines_of() == []


def test_nothing_but_printable_text_gets_through() -> None:
    assert lines_of(b"a\x1b[2Jb\0c\rd\xff \xe2\x80\xae\xe2\x80\xa8e\n") == [
        "a\\x1b[2Jb\\x00c\\rd\\xff \\u202e\\u2028e"
    ]
    assert lines_of("żółw\n".encode()) == ["żółw"]


def test_cap() -> None:
    stderr = StderrLines()
    lines = [line for _ in range(1000) for line in stderr.receive_data(b"x" * 99 + b"\n")]
    lines += [line for _ in range(100) for line in stderr.receive_data(bytes(65_535))]
    assert len(lines) == MAX_STDERR_BYTES // 100
    assert stderr.end()[-1] == f"({100_000 - MAX_STDERR_BYTES + 6_553_500} more bytes dropped)"


@given(st.lists(st.binary(max_size=3000), max_size=6))
def test_bounded_and_printable(pieces: list[bytes]) -> None:
    for line in lines_of(*pieces):
        assert line.isprintable()
        assert len(line) <= 4 * MAX_LINE_BYTES
