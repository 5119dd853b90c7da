import pytest

from edge.origin.address import Address, BadAddress

GOOD = [
    # usual
    ("php1:9000", Address("php1", 9000)),
    ("10.0.0.1:80", Address("10.0.0.1", 80)),
    ("unix:/run/php.sock", Address(path="/run/php.sock")),
    # edge
    ("[::1]:9000", Address("::1", 9000)),
    ("a:65535", Address("a", 65535)),
    ("unix:/" + "x" * 106, Address(path="/" + "x" * 106)),
]
BAD = [
    "",
    "php1",
    "php1:",
    ":9000",
    "php1:0",
    "php1:65536",
    "php1:٣",  # a digit, not an ASCII one
    "::1:9000",
    "unix:",
    "unix:run/php.sock",
    "unix:/" + "x" * 107,
    "unix:/a\0b",
    "a..b:80",
    "x" * 64 + ":80",
    "http://a:80",
    "a:80\n",
]


@pytest.mark.parametrize(("text", "address"), GOOD)
def test_parses_and_prints(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", BAD)
def test_refuses(text: str) -> None:
    with pytest.raises(BadAddress):
        Address.parse(text)
