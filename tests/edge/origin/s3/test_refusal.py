"""What storage says when it does not send an object."""

import pytest

from edge.origin.errors import OriginBroken, OriginError, OriginOverloaded
from edge.origin.messages import Headers
from edge.origin.s3.refusal import MAX_RETRY_AFTER_S, Answer, Said, meaning_of

SIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20231114T221320Z&X-Amz-Expires=900"
NOW = ("date", "Tue, 14 Nov 2023 22:13:25 GMT")


def error(code: str, message: str = "", more: str = "") -> str:
    return f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"


def said(status: int, document: str = "", *headers: tuple[str, str]) -> Said:
    return Said(status, (*headers, NOW), document, SIGNED)


ANSWERS = [
    (said(404, error("NoSuchKey")), 404, (), ""),
    (said(404), 404, (), ""),
    (said(404, "<html>nginx</html>"), 404, (), ""),
    (said(304, "", ("etag", '"a"')), 304, (("etag", '"a"'), NOW), ""),
    (said(412, error("PreconditionFailed")), 412, (NOW,), ""),
    (said(416, error("InvalidRange"), ("content-range", "bytes */7")), 416,
     (("content-range", "bytes */7"),), ""),
    (said(416, error("InvalidRange", "", "<ActualObjectSize>7</ActualObjectSize>")), 416,
     (("content-range", "bytes */7"),), ""),
    (said(416), 416, (), ""),
    (said(403, error("AccessDenied", "Access Denied")), 403, (), "may not be read (GetObject)"),
    (said(403), 403, (), "may not be read (GetObject)"),  # HEAD has no document
    (said(403, error("InvalidObjectState")), 403, (), "restored first"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "status", "headers", "why"), ANSWERS)
def test_answers(given: Said, status: int, headers: Headers, why: str) -> None:
    meaning = meaning_of(given)
    assert isinstance(meaning, Answer)
    assert (meaning.status, meaning.headers) == (status, headers)
    assert why in meaning.why
    assert bool(why) == bool(meaning.why)


LATER = ("date", "Tue, 14 Nov 2023 23:13:20 GMT")
BEFORE = ("date", "Tue, 14 Nov 2023 21:13:20 GMT")
ERRORS = [
    # overloaded
    (said(503, error("SlowDown", "Please reduce your request rate.")), OriginOverloaded,
     "503 SlowDown: Please reduce your request rate."),
    (said(503), OriginOverloaded, "503"),
    (said(429, "<html>"), OriginOverloaded, "429"),
    (said(400, error("RequestLimitExceeded")), OriginOverloaded, "400 RequestLimitExceeded"),
    # the storage
    (said(500, error("InternalError", "We encountered &lt;an&gt; error")), OriginBroken,
     "500 InternalError: We encountered <an> error"),
    (said(502), OriginBroken, "502"),
    (said(206 + 1), OriginBroken, "207"),
    (said(410), OriginBroken, "410"),
    # what is ours
    (said(403, error("InvalidAccessKeyId")), OriginBroken, "access_key, or AWS_ACCESS_KEY_ID"),
    (said(403, error("SignatureDoesNotMatch")), OriginBroken, "secret_key, or AWS_SECRET"),
    (said(400, error("ExpiredToken")), OriginBroken, "temporary credentials are over"),
    (said(400, error("InvalidToken")), OriginBroken, "AWS_SESSION_TOKEN"),
    (said(403, error("AllAccessDisabled")), OriginBroken, "disabled by its provider"),
    (said(403, error("Something")), OriginBroken, "403 Something"),
    (said(404, error("NoSuchBucket")), OriginBroken, "no such bucket: see s3.bucket"),
    # the region
    (said(301, error("PermanentRedirect"), ("x-amz-bucket-region", "eu-west-1")), OriginBroken,
     'set s3.region = "eu-west-1"'),
    (said(301, "", ("x-amz-bucket-region", "eu-west-1")), OriginBroken, '"eu-west-1"'),
    (said(400, error("AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong",
                     "<Region>eu-west-1</Region>")), OriginBroken, 's3.region = "eu-west-1"'),
    (said(400, error("AuthorizationQueryParametersError", "", "<Region>eu</Region>")),
     OriginBroken, '"eu"'),
    (said(307, error("TemporaryRedirect")), OriginBroken, "see s3.region, s3.endpoint"),
    (said(301, "", ("x-amz-bucket-region", 'x"\x1b')), OriginBroken, "see s3.region"),
    # the clock, whatever is said of it
    (Said(403, (LATER,), error("RequestTimeTooSkewed"), SIGNED), OriginBroken,
     "clock is 3600 s behind the storage's"),
    (Said(403, (LATER,), error("AccessDenied", "Request has expired"), SIGNED), OriginBroken,
     "clock is 3600 s behind the storage's: Request has expired"),
    (Said(403, (BEFORE,), "", SIGNED), OriginBroken, "clock is 3600 s ahead of the storage's"),
    (Said(403, (), error("RequestTimeTooSkewed"), ""), OriginBroken, "clock is wrong"),
    (Said(403, (("date", "soon"),), error("RequestTimeTooSkewed"), "X-Amz-Date=x"), OriginBroken,
     "clock is wrong"),
    # hostile
    (said(500, error("A" * 81, "x")), OriginBroken, "500: x"),
    (said(500, error("Bad", "a\r\nb\x1b[0m")), OriginBroken, r"500 Bad: a\r\nb\x1b[0m"),
    (said(500, "<Code>" * 3000), OriginBroken, "500"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "kind", "text"), ERRORS)
def test_errors(given: Said, kind: type[OriginError], text: str) -> None:
    meaning = meaning_of(given)
    assert type(meaning) is kind
    assert text in str(meaning)
    assert str(meaning).isprintable()
    if isinstance(meaning, OriginBroken):
        assert meaning.has_begun  # so it is not put again


@pytest.mark.parametrize(
    ("field", "seconds"),
    [("7", 7), ("0", 1), ("", 1), ("-5", 1), ("soon", 1), ("1" * 10, 1), ("7200", 60),
     ("Tue, 14 Nov 2023 22:13:20 GMT", 1), ("\u0667", 1)],
)  # fmt: skip
def test_when_to_come_again(field: str, seconds: int) -> None:
    meaning = meaning_of(said(503, "", ("retry-after", field)))
    assert isinstance(meaning, OriginOverloaded)
    assert meaning.retry_after_s == seconds <= MAX_RETRY_AFTER_S
