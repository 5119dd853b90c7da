"""Structured field dictionaries, RFC 9651 section 4.2.2, as far as caching needs them.

    max-age=600, stale-while-revalidate=30;x=1, must-revalidate

Any well-formed dictionary is accepted and any other refused whole: there is no half-read field.
Integers, booleans and strings keep their value; the other types and inner lists are only known to
be well-formed, for no directive of ours takes them. Parameters are checked and dropped.
"""

import enum
import re
from typing import Final

# Members of one dictionary. More than a hundred directives is no cache policy.
MAX_MEMBERS: Final = 128


class OtherType(enum.Enum):
    """A value that is neither integer, boolean nor string."""

    OTHER = "other"


Value = int | bool | str | OtherType

# Single characters repeat possessively and every choice is decided by its first character, so the
# scan is linear. Groups are not possessive: Python before 3.11.5 matches those wrongly.
_KEY: Final = r"[a-z*][a-z0-9_.*-]*+"
_INTEGER: Final = r"-?[0-9]{1,15}+(?![0-9.])"
_STRING: Final = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]++|\\["\\])*"'
_BOOLEAN: Final = r"\?[01]"
_DECIMAL: Final = r"-?[0-9]{1,12}+\.[0-9]{1,3}+(?![0-9.])"
_BARE_WORD: Final = r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*+"
_BYTES: Final = r":[A-Za-z0-9+/]*+={0,2}+:"
_DATE: Final = r"@-?[0-9]{1,15}+(?![0-9.])"
_DISPLAY: Final = r'%"(?:[\x20\x21\x23\x24\x26-\x7e]++|%[0-9a-f]{2})*"'
_OTHER: Final = f"{_DECIMAL}|{_BARE_WORD}|{_BYTES}|{_DATE}|{_DISPLAY}"
_BARE: Final = rf"(?:{_INTEGER}|{_STRING}|{_BOOLEAN}|{_OTHER})"
_PARAMETERS: Final = rf"(?:;\x20*+{_KEY}(?:={_BARE})?)*"
_INNER_LIST: Final = rf"\((?:\x20*+{_BARE}{_PARAMETERS}(?=[\x20)]))*\x20*+\)"
_MEMBER: Final = re.compile(
    rf"({_KEY})(?:=(?:({_INTEGER})|({_STRING})|({_BOOLEAN})|({_OTHER}|{_INNER_LIST})))?"
    rf"{_PARAMETERS}(?=[\x20\t,]|\Z)"
)
_COMMA: Final = re.compile(r"[\x20\t]*+,[\x20\t]*+")
_ESCAPED: Final = re.compile(r"\\(.)")


def parse_dictionary(text: str) -> dict[str, Value] | None:
    """The members by key, the last of equal keys, in field order; None when malformed.

    Several field lines are given joined by commas. Nothing at all is the empty dictionary.
    """
    text = text.strip(" ")
    if text.count(",") >= MAX_MEMBERS:
        return None
    members: dict[str, Value] = {}
    position = 0
    while position < len(text):
        member = _MEMBER.match(text, position)
        if member is None:
            return None
        members.pop(member[1], None)
        members[member[1]] = _value(member)
        position = member.end()
        if position == len(text):
            return members
        comma = _COMMA.match(text, position)
        # A comma with nothing behind it is an error here, unlike in other lists.
        if comma is None or comma.end() == len(text):
            return None
        position = comma.end()
    return members


def _value(member: re.Match[str]) -> Value:
    _, integer, string, boolean, other = member.groups()
    if integer is not None:
        return int(integer)
    if string is not None:
        return _ESCAPED.sub(r"\1", string[1:-1])
    if other is not None:
        return OtherType.OTHER
    return boolean is None or boolean == "?1"
