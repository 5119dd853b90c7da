"""Nothing becomes HTML that is none."""

import html
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.status.markup import Markup, element, join, text

# What stands in a name -> how it is written
TEXTS = [
    # usual
    ("php1:9000", "php1:9000"),
    ("unix:/run/php.sock", "unix:/run/php.sock"),
    ("", ""),
    # edge
    ("a & b", "a &amp; b"),
    ("żółw", "żółw"),
    ("&amp;", "&amp;amp;"),
    # hostile
    ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
    ('" onmouseover="x', "&quot; onmouseover=&quot;x"),
    ("' x='", "&#x27; x=&#x27;"),
    ("</title><img src=//evil>", "&lt;/title&gt;&lt;img src=//evil&gt;"),
    ("a\r\nb\0c\x1b[31m", "a\ufffd\ufffdb\ufffdc\ufffd[31m"),
    ("\u202egnp.exe\u2066", "\ufffdgnp.exe\ufffd"),
    ("\ud800", "\ufffd"),
]


@pytest.mark.parametrize(("plain", "written"), TEXTS)
def test_text(plain: str, written: str) -> None:
    assert text(plain) == written
    assert element("p", plain) == f"<p>{written}</p>"
    assert element("a", title=plain) == f'<a title="{written}"></a>'
    assert join(plain, Markup("<br>")) == f"{written}<br>"


def test_elements() -> None:
    assert element("td", element("b", "<"), " ", "2") == "<td><b>&lt;</b> 2</td>"
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert element("td", class_="n", data_label="a b") == '<td class="n" data-label="a b"></td>'
    assert (
        element("meta", http_equiv="refresh", content=5)
        == '<meta http-equiv="refresh" content="5">'
    )
    assert element("meter", min=0, value=0.5) == '<meter min="0" value="0.5"></meter>'
    assert element("p", hidden=True, title=False) == "<p hidden></p>"


@given(st.text(), st.text())
def test_whatever_it_is_it_stays_text(inside: str, attribute: str) -> None:
    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[object] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.seen.append((tag, attrs))

        def handle_data(self, data: str) -> None:
            self.seen.append(data)

    reader = Reader()
    reader.feed(element("i", inside, title=attribute))
    reader.close()
    shown = [html.unescape(text(one)) for one in (inside, attribute)]
    tags = [one for one in reader.seen if not isinstance(one, str)]
    assert tags == [("i", [("title", shown[1])])]
    assert "".join(one for one in reader.seen if isinstance(one, str)) == shown[0]
