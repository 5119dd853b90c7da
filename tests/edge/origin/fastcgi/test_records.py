import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.origin.errors import OriginBroken
from edge.origin.fastcgi.records import (
    HEADER_BYTES,
    MAX_ALIGNED_BYTES,
    MAX_CONTENT_BYTES,
    BeginRequest,
    EndRequest,
    ProtocolStatus,
    Record,
    RecordReader,
    RecordType,
    Role,
    build_stream,
)

# (wire, records), the wire written out by hand
WIRES = [
    # usual
    (b"\1\6\0\1\0\2\6\0hi" + bytes(6), [Record(6, 1, b"hi")]),
    (b"\1\3\0\1\0\x08\0\0" + bytes(8), [Record(3, 1, bytes(8))]),
    # edge: empty, unaligned without padding, the most padding, on an empty record too
    (b"\1\6\0\1\0\0\0\0", [Record(6, 1)]),
    (b"\1\6\0\1\0\2\0\0hi", [Record(6, 1, b"hi")]),
    (b"\1\6\0\1\0\2\xff\0hi" + b"p" * 255, [Record(6, 1, b"hi")]),
    (b"\1\6\0\1\0\0\xff\0" + b"\1" * 255, [Record(6, 1)]),
    (b"\1\6\0\1\0\1\0\0a\1\7\0\1\0\1\0\0b", [Record(6, 1, b"a"), Record(7, 1, b"b")]),
    # hostile, but records: unknown type, management id, high request id, reserved byte set
    (b"\1\xff\0\0\0\0\0\xff", [Record(255, 0)]),
    (b"\1\6\xff\xff\0\0\0\0", [Record(6, 65535)]),
    (b"\1\6\0\1\xff\xff\xff\0" + b"x" * 65790, [Record(6, 1, b"x" * 65535)]),
]


def read_all(pieces: list[bytes]) -> tuple[list[Record], int]:
    reader = RecordReader()
    records = []
    for piece in pieces:
        reader.receive_data(piece)
        records.extend(reader)
    return records, reader.pending_bytes


@pytest.mark.parametrize(("wire", "records"), WIRES, ids=lambda case: str(case)[:30])
def test_reads(wire: bytes, records: list[Record]) -> None:
    assert read_all([wire]) == (records, 0)
    assert read_all([bytes((byte,)) for byte in wire]) == (records, 0)
    assert read_all([wire + b"\1\6\0"]) == (records, 3)
    assert read_all([wire + wire]) == (records * 2, 0)
    for cut in range(1, min(len(wire), 20)):
        early, _ = read_all([wire[:cut]])
        assert early == records[: len(early)]
        assert read_all([wire[:cut], wire[cut:]]) == (records, 0)


@pytest.mark.parametrize("wire", [b"\0", b"\2\6\0\1\0\0\0\0", b"H", b"\1\6\0\1\0\0\0\0X"])
def test_wrong_version(wire: bytes) -> None:
    with pytest.raises(OriginBroken):
        read_all([wire])
    with pytest.raises(OriginBroken):
        read_all([bytes((byte,)) for byte in wire])


records_ = st.builds(Record, st.integers(0, 255), st.integers(0, 65535), st.binary(max_size=300))


@given(st.lists(records_, max_size=8), st.integers(1, 50))
def test_round_trip(records: list[Record], step: int) -> None:
    wire = b"".join(record.build() for record in records)
    assert len(wire) % 8 == 0
    pieces = [wire[i : i + step] for i in range(0, len(wire), step)]
    assert read_all(pieces) == (records, 0)


@given(st.lists(st.binary(max_size=70), max_size=10))
def test_any_bytes_are_records_or_broken(pieces: list[bytes]) -> None:
    try:
        records, pending = read_all(pieces)
    except OriginBroken:
        return
    used = sum(HEADER_BYTES + len(record.content) for record in records)
    assert used + pending <= sum(map(len, pieces))


@pytest.mark.parametrize("size", [0, 1, 8, MAX_ALIGNED_BYTES, MAX_ALIGNED_BYTES + 1, 200_000])
def test_stream_ends_with_an_empty_record(size: int) -> None:
    records, _ = read_all([build_stream(RecordType.STDIN, 1, b"x" * size)])
    assert b"".join(record.content for record in records) == b"x" * size
    assert records[-1].content == b""
    assert all(record.content for record in records[:-1])


def test_record_limits() -> None:
    assert len(Record(6, 1, bytes(MAX_CONTENT_BYTES)).build()) == 65_544
    for bad in [(256, 1, b""), (-1, 1, b""), (6, 65536, b""), (6, 1, bytes(65536))]:
        with pytest.raises(ValueError, match=r"range|limit"):
            Record(*bad).build()


@given(st.sampled_from(Role), st.integers(0, 255))
def test_begin_request_round_trip(role: Role, flags: int) -> None:
    begin = BeginRequest(role, flags)
    assert BeginRequest.parse(begin.build()) == begin


@given(st.integers(0, 2**32 - 1), st.sampled_from(ProtocolStatus))
def test_end_request_round_trip(app_status: int, status: ProtocolStatus) -> None:
    end = EndRequest(app_status, status)
    assert EndRequest.parse(end.build()) == end


@pytest.mark.parametrize("content", [b"", bytes(7), bytes(9), b"\0\0\0\0\x04\0\0\0"])
def test_end_request_refused(content: bytes) -> None:
    with pytest.raises(OriginBroken):
        EndRequest.parse(content)


@pytest.mark.parametrize("content", [b"", bytes(8), b"\0\x04\0\0\0\0\0\0", bytes(9)])
def test_begin_request_refused(content: bytes) -> None:
    with pytest.raises(OriginBroken):
        BeginRequest.parse(content)
