"""Signs requests for objects, by obstore (the extra s3), which knows where credentials come from:
the settings, the environment (AWS_ACCESS_KEY_ID and kin), the role of a machine or a container.

The signature stands in the URL, for the method and the host alone: preconditions and Range can go
with it. obstore asks nobody but who hands out a role's credentials.
"""

import asyncio
import datetime
from typing import TYPE_CHECKING, Final

from edge.origin.errors import OriginBroken
from edge.origin.exchange import Deadlines
from edge.origin.s3.bucket import Bucket

if TYPE_CHECKING:
    from obstore.store import S3Store

# So far may the clocks be apart; what is signed in headers has as long.
EXPIRES: Final = datetime.timedelta(minutes=15)
# Of asking for a role's credentials: a machine that starts may be quicker than what hands them out.
_RETRIES: Final = 2


class Signer:
    def __init__(self, bucket: Bucket, deadlines: Deadlines) -> None:
        """Raises ImportError without obstore, ValueError for what it does not take."""
        self._bucket = bucket
        self._late_s = deadlines.first_byte_s
        self._store = None if bucket.is_anonymous else _open_store(bucket, deadlines)

    async def maybe_url(self, method: str, key: str) -> str | None:
        """None for what can be no key. Raises OriginBroken without credentials."""
        if self._store is None:
            return self._bucket.url_of(key)
        import obstore
        from obstore import exceptions

        try:
            async with asyncio.timeout(self._late_s):
                signed = await obstore.sign_async(
                    self._store, "HEAD" if method == "HEAD" else "GET", key, EXPIRES
                )
                return str(signed)
        except (TypeError, ValueError):
            return None
        except TimeoutError as late:
            why = f"no credentials to sign with in {self._late_s:g} s"
            raise OriginBroken(why, has_begun=False) from late
        except (exceptions.BaseError, OSError) as failed:
            why = f"no credentials to sign with: {_brief(failed)}"
            raise OriginBroken(why, has_begun=False) from failed


def _open_store(bucket: Bucket, deadlines: Deadlines) -> "S3Store":
    """Everything is said: else variables of the environment would have a say in it."""
    from obstore.store import S3Store

    def configured() -> dict[str, str | datetime.datetime | None]:
        """Without the environment's AWS_SESSION_TOKEN, which belongs to another key."""
        return {
            "access_key_id": bucket.access_key,
            "secret_access_key": bucket.secret_key,
            "token": None,
            "expires_at": None,
        }

    late = datetime.timedelta(seconds=deadlines.first_byte_s)
    return S3Store(
        bucket.name,
        config={
            "region": bucket.region,
            "endpoint": bucket.base,
            "virtual_hosted_style_request": bucket.is_virtual_host,
        },
        client_options={
            "allow_http": True,
            "connect_timeout": datetime.timedelta(seconds=deadlines.connect_s),
            "timeout": late,
        },
        retry_config={"max_retries": _RETRIES, "retry_timeout": late},
        credential_provider=configured if bucket.access_key else None,  # type: ignore[arg-type]
    )


def _brief(failed: Exception) -> str:
    """The first line, without the document behind it."""
    line = str(failed).partition("\n")[0].partition("<")[0]
    return f"{type(failed).__name__}: {line.encode('unicode_escape').decode():.200}"
