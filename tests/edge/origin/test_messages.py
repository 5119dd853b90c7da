import dataclasses

import pytest

from edge.origin.errors import UnsendableRequest
from edge.origin.messages import MAX_BODY_BYTES, named_by_connection
from tests.edge.origin.asking import GET

HOSTILE = [
    {"method": "GE T"},
    {"method": ""},
    {"target": "a"},
    {"target": "/a b"},
    {"target": "/a\n"},
    {"target": "/é"},
    {"path": "/a\0b"},
    {"path": "/a\nb"},
    {"path": "/\ud800"},
    {"query": "a b"},
    {"host": "a\r\nb"},
    {"host": "a b"},
    {"remote_addr": "1\n"},
    {"server_protocol": "HTTP/1.1\n"},
    {"headers": (("", "x"),)},
    {"headers": (("a b", "x"),)},
    {"headers": (("a\n", "x"),)},
    {"headers": (("a", "x\ny"),)},
    {"headers": (("a", "x\r"),)},
    {"headers": (("a", "x\0"),)},
    {"headers": (("a", "\u0142"),)},  # no latin-1
    {"body": bytes(MAX_BODY_BYTES + 1)},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_what_cannot_be_written_cannot_exist(change: dict[str, object]) -> None:
    if "body" in change:
        dataclasses.replace(GET, body=bytes(MAX_BODY_BYTES))
    with pytest.raises(UnsendableRequest):
        dataclasses.replace(GET, **change)


def test_connection_names_fields() -> None:
    headers = (("Connection", "close, X-Secret"), ("a", "b"), ("connection", " TE\t"))
    assert named_by_connection(headers) == {"close", "x-secret", "te"}
