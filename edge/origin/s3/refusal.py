"""What storage says when it does not send an object: a status, and an <Error> that says why. Pure.

    status                                                is
    304, 412, 416                                         an answer, to what was asked
    404                                                   an answer: no such object
    403 AccessDenied, InvalidObjectState                  an answer, and a line in the log
    429, 503; SlowDown                                    OriginOverloaded: it has too much
    403, 400, 301, 307 of other codes; 404 NoSuchBucket   OriginBroken, with what to do about it
    any other                                             OriginBroken

What is wrong with our key, clock, region or bucket says nothing of the object. It is no answer for
a client, and what the storage gave before may stand in for it as for a dead one.

The document is XML, and is searched, not parsed: of what is somebody else's a few words are enough.
"""

import datetime
import html
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from edge.http.date import parse_date
from edge.origin.errors import OriginBroken, OriginError, OriginOverloaded
from edge.origin.messages import Headers

# What is read of a document; Amazon's have some 300 bytes.
MAX_DOCUMENT_BYTES: Final = 16 * 1024
# Where the storage does not say when to come again, and where it says what is too long: hosts are
# held no longer, either.
RETRY_AFTER_S: Final = 1
MAX_RETRY_AFTER_S: Final = 60
# Clocks may be so far apart; storage refuses what was signed earlier.
MAX_SKEW_S: Final = 15 * 60

_CODE: Final = re.compile(r"<Code>\s*([A-Za-z0-9._-]{1,80})\s*</Code>")
_MESSAGE: Final = re.compile(r"<Message>([^<]{1,400})</Message>")
_REGION: Final = re.compile(r"<Region>\s*([a-z0-9-]{1,40})\s*</Region>")
_SIZE: Final = re.compile(r"<ActualObjectSize>\s*([0-9]{1,18})\s*</ActualObjectSize>")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")

_ANSWERS: Final = frozenset({304, 404, 412, 416})
_BUSY_STATUSES: Final = frozenset({429, 503})
_BUSY_CODES: Final = frozenset({"SlowDown", "TooManyRequests", "RequestLimitExceeded"})
# What lies elsewhere, as told by whoever was asked.
_ELSEWHERE: Final = frozenset(
    {
        *("AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"),
        *("PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException"),
    }
)
_DENIED: Final = "it may not be read (GetObject), or is not there and that may not be seen"
_ARCHIVED: Final = "it is archived and has to be restored first"
_ADVICE: Final = {
    "AccessDenied": f"{_DENIED} (ListBucket)",
    "AccountProblem": "the account is closed or owes money",
    "AllAccessDisabled": "the bucket was disabled by its provider",
    "ExpiredToken": "the temporary credentials are over, and whatever renews them does not",
    "InvalidAccessKeyId": "access_key, or AWS_ACCESS_KEY_ID, is not known there",
    "InvalidObjectState": _ARCHIVED,
    "InvalidToken": "AWS_SESSION_TOKEN does not belong to AWS_ACCESS_KEY_ID",
    "NoSuchBucket": "there is no such bucket: see s3.bucket, s3.endpoint and s3.virtual_host",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "SignatureDoesNotMatch": "secret_key, or AWS_SECRET_ACCESS_KEY, does not belong to its id;"
    " or a proxy in between changes Host or the path",
}
# Refusals of the object, not of us.
_OF_THE_OBJECT: Final = frozenset({"", "AccessDenied", "InvalidObjectState"})


@dataclass(frozen=True, slots=True)
class Said:
    """headers have lower-case names. query is of the URL that was asked for: it says when it was
    signed."""

    status: int
    headers: Headers
    document: str
    query: str = ""

    def value(self, name: str) -> str:
        """The first; "" where there is none."""
        return next((value for field, value in self.headers if field == name), "")


@dataclass(frozen=True, slots=True)
class Answer:
    """Goes to the client. why: for the log, where somebody may have to do something about it."""

    status: int
    headers: Headers = ()
    why: str = ""


def meaning_of(said: Said) -> Answer | OriginError:
    """Of any status but 200 and 206. The error is to be raised; its text names no host."""
    code = _maybe(_CODE, said.document)
    if said.status in _BUSY_STATUSES or code in _BUSY_CODES:
        return OriginOverloaded(_text(said, code, ""), _retry_after_s(said))
    if said.status == 404 and code != "NoSuchBucket":
        return Answer(404)
    if said.status == 416:
        return Answer(416, _unsatisfied(said))
    if said.status in _ANSWERS - {404}:
        return Answer(said.status, said.headers)
    advice = _skew(said) if said.status in (400, 403) else ""
    if not advice and (code in _ELSEWHERE or said.status in (301, 307)):
        advice = _elsewhere(said)
    if not advice and said.status == 403 and code in _OF_THE_OBJECT:
        return Answer(403, why=_text(said, code, _ADVICE.get(code, _ADVICE["AccessDenied"])))
    return OriginBroken(_text(said, code, advice or _ADVICE.get(code, "")))


def _text(said: Said, code: str, advice: str) -> str:
    words = [f"{said.status} {code}".rstrip()]
    if advice:
        words.append(advice)
    if told := _maybe(_MESSAGE, said.document):
        words.append(html.unescape(told).encode("unicode_escape").decode()[:200])
    return ": ".join(words)


def _retry_after_s(said: Said) -> int:
    text = said.value("retry-after")
    if _SECONDS.fullmatch(text) is None:
        return RETRY_AFTER_S
    return min(max(int(text), RETRY_AFTER_S), MAX_RETRY_AFTER_S)


def _unsatisfied(said: Said) -> Headers:
    told = said.value("content-range")
    size = _maybe(_SIZE, said.document)
    if not told and size:
        told = f"bytes */{size}"
    return (("content-range", told),) if told else ()


def _elsewhere(said: Said) -> str:
    region = said.value("x-amz-bucket-region") or _maybe(_REGION, said.document)
    if re.fullmatch(r"[a-z0-9-]{1,40}", region):
        return f'the bucket lies in another region: set s3.region = "{region}"'
    return "the bucket lies in another region, or at another endpoint: see s3.region, s3.endpoint"


def _skew(said: Said) -> str:
    """By when we signed and what their clock shows: whatever the code, that is why."""
    theirs = parse_date(said.value("date"))
    signed = parse_qs(said.query).get("X-Amz-Date", [""])[0]
    try:
        ours = datetime.datetime.strptime(signed, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        return ""
    if theirs is None:
        return ""
    behind_s = theirs - int(ours.timestamp())
    if abs(behind_s) <= MAX_SKEW_S:
        return ""
    word = "behind" if behind_s > 0 else "ahead of"
    return f"this machine's clock is {abs(behind_s)} s {word} the storage's"


def _maybe(pattern: re.Pattern[str], document: str) -> str:
    match = pattern.search(document)
    return match[1] if match else ""
