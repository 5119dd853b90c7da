"""A bucket: where it listens, and what its objects are called. Pure.

https://s3.eu-west-1.amazonaws.com/pics/originals/a.jpg     path style
https://pics.s3.eu-west-1.amazonaws.com/originals/a.jpg     virtual host style
"""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from edge.origin.address import Address

# Of a key, in UTF-8.
MAX_KEY_BYTES: Final = 1024
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Bucket:
    """endpoint is "" for Amazon's own. Without keys the environment's count."""

    name: str
    prefix: str = ""
    region: str = "us-east-1"
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    is_anonymous: bool = False
    is_virtual_host: bool = False

    @property
    def base(self) -> str:
        """Scheme and host of every request."""
        place = self._place
        host = f"{self.name}.{place.netloc}" if self.is_virtual_host else place.netloc
        return f"{place.scheme}://{host}"

    @property
    def address(self) -> Address:
        place = urlsplit(self.base)
        return Address(place.hostname or "", place.port or _PORTS[place.scheme])

    @property
    def is_tls(self) -> bool:
        return self._place.scheme == "https"

    @property
    def _place(self) -> SplitResult:
        # China is a cloud of its own.
        china = ".cn" if self.region.startswith("cn-") else ""
        return urlsplit(self.endpoint or f"https://s3.{self.region}.amazonaws.com{china}")

    def maybe_key(self, path: str) -> str | None:
        """Of the object that a path of the site names; None where none can be. One spelling an
        object: clients of storage are apt to take "//a" and "a/" for "a"."""
        if any(segment in ("", ".", "..") for segment in path[1:].split("/")):
            return None
        key = f"{self.prefix}/{path[1:]}" if self.prefix else path[1:]
        return key if len(key.encode()) <= MAX_KEY_BYTES else None

    def url_of(self, key: str) -> str:
        """Unsigned."""
        bucket = "" if self.is_virtual_host else f"/{self.name}"
        return f"{self.base}{bucket}/{quote(key)}"
