"""TOML with the line of every key, and of every syntax error."""

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.settings.document import BadDocument, Document, parse_document


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        # usual
        ("a = 1\nb = 2\n", {("a",): 1, ("b",): 2}),
        ("\n# a = 0\na = 1", {("a",): 3}),
        ("[t]\na = 1\n[u]\na = 2", {("t",): 1, ("t", "a"): 2, ("u",): 3, ("u", "a"): 4}),
        ("[[s]]\na=1\n[[s]]\n\na=2", {("s",): 1, ("s", 0, "a"): 2, ("s", 1): 3, ("s", 1, "a"): 5}),
        ("[[s]]\n[s.e]\nx=1\n[[s]]\n[s.e]\nx=2", {("s", 0, "e", "x"): 3, ("s", 1, "e", "x"): 6}),
        ("[[s]]\n[[s.t]]\n[[s.t]]\nx=1", {("s", 0, "t", 0): 2, ("s", 0, "t", 1, "x"): 4}),
        # dotted, quoted, spaced
        ("a.b.c = 1\na.d = 2", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "d"): 2}),
        ('\n"a.b" = 1', {("a.b",): 2}),
        ("'a\"=b' = 1", {('a"=b',): 1}),
        ('"]" . "\\u0061#" = 1', {("]", "a#"): 1}),
        ("[ t . 'u]' ]\n  x\t=\t1", {("t", "u]"): 1, ("t", "u]", "x"): 2}),
        ('"" = 1', {("",): 1}),
        # values over several lines, with everything that looks like a key inside
        ('a = """\nb = 1\n[c]\n"""\nd = 2', {("a",): 1, ("d",): 5}),
        ("a = '''\nb = 1\n'''\nd = 2", {("d",): 4}),
        ('a = """x\\"""\n"""\nd = 2', {("d",): 3}),  # an escaped quote does not close
        ('a = """x"""""\nd = 2', {("d",): 2}),  # two quotes before the closing three
        ("a = '''x''''\nd = 2", {("d",): 2}),
        ("a = [\n  1, # one ]\n  2,\n]\nd = 2", {("a",): 1, ("a", 1): 3, ("d",): 5}),
        ('a = ["]",\n"#"]\nd = 2', {("a", 1): 2, ("d",): 3}),
        ("a = { b = 1, c.d = [\n2] }\ne = 1", {("a", "b"): 1, ("a", "c", "d", 0): 2, ("e",): 3}),
        ("a = [\n{ b = 1 },\n{ b = 2 },\n]", {("a", 0, "b"): 2, ("a", 1, "b"): 3}),
        ("a = {}\nb = []\nc = 1", {("c",): 3}),
        ("a = 1979-05-27 07:32:00Z # when\nb = -inf", {("b",): 2}),
        # line ends
        ("a = 1\r\n\r\nb = 2\r\n", {("b",): 3}),
        ('a = """\r\n\r\n"""\r\nb = 2', {("b",): 4}),
        ("s = 'a\u2028b'\nb = 2", {("b",): 2}),  # \n alone ends a line
    ],
)
def test_every_key_has_its_line(text: str, lines: dict[tuple[str | int, ...], int]) -> None:
    document = parse_document(text)
    assert {path: document.lines.get(path) for path in lines} == lines
    assert _paths(document.values) <= set(document.lines)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nlisten 8080\nb = 2", 2),
        ("a = 1\nb = \nc = 3", 2),
        ("a = 1\na = 2", 2),
        ("[t]\na = 1\n[t]\n", 3),
        ("[[t]]\n[t]\n", 2),
        ("a = 1\n\nb = 'x\nc = 3", 3),
        ('a = 1\n\nb = """\nnever closed\n', 3),
        ("a = 1\nb = [1,\n2\nc = 3", 2),
        ("a = 1\n[t\nb = 1", 2),
        ("a = 1\nb = { c = 1", 2),
        ("a = 1 b = 2\nc = 3", 1),
        ('a = "x" b = 2', 1),
        ("a = 1\nb = 01\n", 2),
        ("a = 1\nb = yes\n", 2),
        ('a = "\\q"\n', 1),
        ("a.b = 1\na.b.c = 2\n", 2),
        ("= 1", 1),
        ("a = 1\n[#]", 2),  # a header in which all is comment
        ("\ufeffa = 1", 1),
        ("a = 1\n]\n", 2),
        ("a = 1\n\x00\n", 2),
        ("a = " + "9" * 5000, 1),
        ("a = 1\nb = " + "[" * 20000, 2),
    ],
)
def test_a_syntax_error_has_its_line(text: str, line: int) -> None:
    with pytest.raises(BadDocument) as caught:
        parse_document(text)
    assert caught.value.line == line


_KEYS = st.text(st.sampled_from("ab.=[]#\"' \\é-1"), min_size=0, max_size=5)
_LEAVES = st.one_of(
    st.integers(0, 9), st.booleans(), st.text(st.sampled_from("a\n\"'=[]{}#,\\"), max_size=8)
)
_TABLES = st.recursive(
    st.dictionaries(_KEYS, _LEAVES, max_size=3),
    lambda inner: st.dictionaries(_KEYS, st.one_of(_LEAVES, inner), max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(st.tuples(_KEYS, st.booleans(), _TABLES), max_size=5), st.integers(0, 3))
def test_lines_of_any_document(parts: list[tuple[str, bool, dict[str, object]]], gap: int) -> None:
    """Written one value a line, every path of tomllib is found, on the line that holds its key."""
    text = ""
    for number, (key, is_array, table) in enumerate(parts):
        name = json.dumps(f"{number if not is_array else ''}{key}", ensure_ascii=False)
        text += f"[[{name}]]\n" if is_array else f"[{name}]\n"
        for inner, value in table.items():
            text += "\n" * gap + f"{json.dumps(inner, ensure_ascii=False)} = {_toml(value)}\n"
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # the drawn names collided
    document = parse_document(text)
    assert document.values == values
    assert _paths(values) <= set(document.lines)
    rows = text.split("\n")
    for path, line in document.lines.items():
        if isinstance(path[-1], str):
            assert json.dumps(path[-1], ensure_ascii=False)[1:-1] in rows[line - 1]


@settings(deadline=None)
@given(st.text(st.sampled_from("ab=[]{}\"'#.,\n\\ 1"), max_size=40))
def test_any_text_ends(text: str) -> None:
    try:
        document = parse_document(text)
    except BadDocument as error:
        assert 1 <= error.line <= text.count("\n") + 1
    else:
        assert isinstance(document, Document)
        assert _paths(document.values) <= set(document.lines)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(k, ensure_ascii=False)} = {_toml(v)}" for k, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, str) and "\n" in value:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"""\n{escaped}"""'
    return json.dumps(value, ensure_ascii=False)


def _paths(value: object, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """Every path to a table, a value, or an item."""
    found = {path} if path else set()
    if isinstance(value, dict):
        items: list[tuple[str | int, object]] = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        items = []
    return found.union(*(_paths(inner, (*path, key)) for key, inner in items))
