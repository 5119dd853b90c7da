"""HTML that cannot be written without escaping what is not HTML. Pure.

Text becomes Markup through element() alone, where every str that is not Markup is escaped, in
attributes too. A character that is not printable (controls, the marks that turn the direction of
writing) becomes U+FFFD: no text shown here should have one.
"""

import html
from typing import Final

VOID: Final = frozenset({"meta", "link", "br"})


class Markup(str):
    """Well-formed, and safe to be sent as it is."""

    __slots__ = ()


def text(plain: str) -> Markup:
    if not plain.isprintable():
        plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in plain)
    return Markup(html.escape(plain, quote=True))


def join(*parts: str) -> Markup:
    return Markup("".join(part if isinstance(part, Markup) else text(part) for part in parts))


def element(tag: str, /, *children: str, **attributes: str | float | bool) -> Markup:
    """Attributes as keywords: class_ for class, data_x for data-x; True for one without a value,
    and False for none."""
    opening = [tag]
    for key, value in attributes.items():
        written = key.rstrip("_").replace("_", "-")
        if value is True:
            opening.append(written)
        elif value is not False:
            opening.append(f'{written}="{text(str(value))}"')
    start = f"<{' '.join(opening)}>"
    return Markup(start if tag in VOID else f"{start}{join(*children)}</{tag}>")
