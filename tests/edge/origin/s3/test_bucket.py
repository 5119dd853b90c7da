"""Where a bucket listens, and what its objects are called."""

import pytest

from edge.origin.address import Address
from edge.origin.s3.bucket import MAX_KEY_BYTES, Bucket


# (endpoint, region, by host, base, address, URL of "a b/ż.jpg")
@pytest.mark.parametrize(
    ("bucket", "address", "url"),
    [
        (Bucket("pics", region="eu-west-1"), Address("s3.eu-west-1.amazonaws.com", 443),
         "https://s3.eu-west-1.amazonaws.com/pics/"),
        (Bucket("pics", region="cn-north-1"), Address("s3.cn-north-1.amazonaws.com.cn", 443),
         "https://s3.cn-north-1.amazonaws.com.cn/pics/"),
        (Bucket("pics", is_virtual_host=True), Address("pics.s3.us-east-1.amazonaws.com", 443),
         "https://pics.s3.us-east-1.amazonaws.com/"),
        (Bucket("pics", endpoint="http://minio:9000"), Address("minio", 9000),
         "http://minio:9000/pics/"),
        (Bucket("pics", endpoint="http://minio"), Address("minio", 80), "http://minio/pics/"),
        (Bucket("pics", endpoint="http://[::1]:9000"), Address("::1", 9000),
         "http://[::1]:9000/pics/"),
        (Bucket("pics", endpoint="https://oss.example:443", is_virtual_host=True),
         Address("pics.oss.example", 443), "https://pics.oss.example:443/"),
    ],
)  # fmt: skip
def test_places(bucket: Bucket, address: Address, url: str) -> None:
    assert bucket.address == address
    assert bucket.is_tls == url.startswith("https")
    assert bucket.url_of("a b/%ż+~.jpg") == f"{url}a%20b/%25%C5%BC%2B~.jpg"


@pytest.mark.parametrize(
    ("prefix", "path", "key"),
    [
        ("", "/a.jpg", "a.jpg"),
        ("originals/x", "/sub/a.jpg", "originals/x/sub/a.jpg"),
        ("", "/...", "..."),
        ("", "/" + "k" * MAX_KEY_BYTES, "k" * MAX_KEY_BYTES),
        ("p", "/" + "k" * (MAX_KEY_BYTES - 2), "p/" + "k" * (MAX_KEY_BYTES - 2)),
        # no keys
        ("p", "/" + "k" * (MAX_KEY_BYTES - 1), None),
        ("", "/" + "ż" * (MAX_KEY_BYTES // 2 + 1), None),
        ("", "/", None),
        ("", "/a/", None),
        ("", "//a", None),
        ("p", "/../a", None),
        ("p", "/a/./b", None),
    ],
)
def test_keys(prefix: str, path: str, key: str | None) -> None:
    assert Bucket("pics", prefix).maybe_key(path) == key
