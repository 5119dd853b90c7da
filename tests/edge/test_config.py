"""The configuration: every kind of mistake, and where each one is reported."""

import importlib.util
import json
import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import Config, ConfigError, default_text, load
from edge.settings.addresses import RedisIndex, TcpAddress, UnixAddress
from edge.settings.sections import Grammar, OffStep
from tests.peers.nobody import as_nobody, nobodys_folder

REPOSITORY = Path(__file__).parents[2]


class Place:
    """A folder with originals and room for a cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "originals"
        self.root.mkdir()
        self.file = folder / "halftone.toml"
        # Lines 1 and 2, so that what a test adds starts on line 3.
        self.head = f"cache.path = '{folder}/cache'\n\n"
        self.site = f"[[site]]\nroot = '{self.root}'\n"

    def load(self, text: str, environ: dict[str, str] | None = None, **overrides: str) -> Config:
        self.file.write_text(self.head + text)
        return load(str(self.file), environ or {}, overrides)

    def problems(self, text: str, environ: dict[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(text, environ)
        assert str(caught.value) == "\n".join(map(str, caught.value.problems))
        return [str(p).replace(str(self.file), "F") for p in caught.value.problems]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


ORIGIN = "[[origin]]\nname = 'app'\nhosts = ['a:9000']\nscript_filename = '/i.php'\n"


def test_the_whole_manual(place: Place) -> None:
    config = place.load(
        f"""listen = ["0.0.0.0:8080", "[::1]:8080"]
        admin = "127.0.0.1:8081"
        workers = 3
        name = "edge1"
        forwarded = "forwarded"
        trusted_proxies = ["10.0.0.0/8"]
        cache.size = "1GiB"
        cache.index = "redis://:p@host:6379/0"
        [resizer]
        processes = 3
        deadline = "10s"
        sandbox = "off"
        [connection]
        idle = "2m"
        [log]
        access = "{place.folder}/access.log"
        format = "json"
        [[origin]]
        name = "app"
        kind = "fastcgi"
        hosts = ["php1:9000", "unix:/run/php.sock"]
        balance = "round-robin"
        script_filename = "/srv/app/index.php"
        connect_timeout = "2s"
        timeout = "30s"
        [[site]]
        hosts = ["upload.example.org"]
        root = "{place.root}"
        origin = "app"
        grammars = ["wikipedia", "query"]
        prefix = "/img"
        steps = [20, 40]
        off_step = "reject"
        [site.expire]
        max_age = "7d"
        immutable = true
        [[site]]
        origin = "app"
        [site.limits]
        max_source_bytes = 1048576
        """
    )
    first, second = config.sites
    assert config.listen == (TcpAddress("0.0.0.0", 8080), TcpAddress("::1", 8080))
    assert (config.cache.size, config.resizer.processes, config.connection.idle) == (2**30, 3, 120)
    assert isinstance(config.cache.index, RedisIndex)
    assert config.origins[0].hosts == (TcpAddress("php1", 9000), UnixAddress("/run/php.sock"))
    assert (first.grammars, first.steps) == ((Grammar.WIKIPEDIA, Grammar.QUERY), (20, 40))
    assert first.off_step is OffStep.REJECT
    assert (first.expire.max_age, first.expire.immutable) == (604_800, True)
    assert (second.limits.max_source_bytes, second.expire.max_age) == (2**20, 3600)
    assert (first.name, second.name) == ("upload.example.org", "*")
    assert second.grammars == tuple(Grammar)


@pytest.mark.parametrize(
    "index",
    [
        "redis://:hunter2@h",
        "redis+sentinel://:hunter2@h/farm/1?sentinel_password=hunter2",
        "redis+cluster://:hunter2@h,i:7000",
    ],
)
def test_the_dump_reads_back_and_masks_secrets(place: Place, index: str) -> None:
    config = place.load(
        f"cache.index = '{index}'\ntrusted_proxies = ['10.0.0.0/8']\n" + ORIGIN + place.site
    )
    assert "hunter2" not in config.toml() + repr(config)
    dumped = config.toml().replace("***", "hunter2")
    place.head = ""
    again = place.load(dumped)
    assert again == config
    assert again.digest() == config.digest()
    assert len(tomllib.loads(dumped)["site"]) == 1


def test_the_shipped_file_is_the_generated_one() -> None:
    assert (REPOSITORY / "deploy" / "halftone.toml").read_text() == default_text()


def test_the_shipped_file_says_the_defaults_it_has(tmp_path: Path) -> None:
    """With every "#" taken away it is the same configuration, but for what only has an example:
    the origin, and the settings without a default."""
    lines = default_text().splitlines()
    live = [line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in lines]
    file = tmp_path / "halftone.toml"
    file.write_text("\n".join(live))
    config = load(str(file), {}, {}, is_checked=False)
    file.write_text(default_text())
    bare = load(str(file), {}, {}, is_checked=False)
    examples = ('user = "halftone"', 'group = "halftone"', 'pid_file = "/run/halftone.pid"')
    top = config.toml().split("[[origin]]")[0].splitlines()
    for line in examples:
        top.remove(line)
    assert top == bare.toml().split("[[site]]")[0].splitlines()
    assert (config.sites[0].origin, bare.sites[0].origin) == ("app", None)
    assert config.sites[0].steps == bare.sites[0].steps == ()
    assert bare.sites[0].root == "/srv/originals"
    assert max(map(len, lines)) <= 100


def test_the_contract_of_defaults() -> None:
    config = Config()
    assert (list(map(str, config.listen)), str(config.admin)) == (
        ["0.0.0.0:8080"],
        "127.0.0.1:8081",
    )
    assert (config.workers, config.name) == (1, "edge1")
    cache, resizer, connection = config.cache, config.resizer, config.connection
    assert (cache.path, cache.size) == ("/var/cache/halftone", 50 * 2**30)
    assert (cache.inodes, cache.memory, str(cache.index)) == (2_000_000, 256 * 2**20, "embedded")
    assert (resizer.processes, resizer.deadline, resizer.queue) == (None, 10, 64)
    assert (resizer.max_pixels, resizer.sandbox.value) == (50_000_000, "best-effort")
    assert (connection.header, connection.idle, connection.send) == (10, 75, 30)
    assert connection.max_connections == 10_000
    assert (config.log.access, config.log.format.value) == ("-", "combined")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # unknown names
        ("lissten = []", 'F:3: lissten: unknown setting; did you mean "listen"?'),
        ("size = '1GiB'", "F:3: size: unknown setting here; it belongs in [cache]"),
        ("zzz = 1", "F:3: zzz: unknown setting"),
        ("[cahce]\npath='/x'", 'F:3: cahce: unknown setting; did you mean "cache"?'),
        ("[log]\nlevel = 1", "F:4: log.level: unknown setting"),
        ("[[site]]\nroot='{root}'\n\nroots=1",
         'F:6: site.roots: unknown setting; did you mean "root"?'),
        # wrong types
        ("listen = '0.0.0.0:80'",
         'F:3: listen: must be a list in square brackets; write ["0.0.0.0:80"]'),
        ("workers = '1'", "F:3: workers: must be a whole number, 1 to 64, not '1'"),
        ("workers = true", "F:3: workers: must be a whole number, 1 to 64, not true"),
        ("workers = 65", "F:3: workers: must be 1 to 64, not 65"),
        ("workers = 2", ("F:3: workers: 2 of them need an index that they can share:"
         " name a Redis in cache.index")),
        ("forwarded = 'both'",
         "F:3: forwarded: must be \"x-forwarded-for\" or \"forwarded\", not 'both'"),
        ("admin = 8081", "F:3: admin: must be HOST:PORT, [IPV6]:PORT or unix:/path, in quotes"),
        ("resizer = 3", "F:3: resizer: must be a table, [resizer]"),
        ("[origin]\nname='app'",
         "F:3: origin: can be there several times: write [[origin]] with two brackets"),
        ("site = [1]", "F:3: site: can be there several times: write [[site]] with two brackets"),
        ("[resizer]\ndeadline = 10",
         'F:4: resizer.deadline: needs a unit and quotes: "10s" for seconds'),
        ("[resizer]\nsandbox = 'on'",
         'F:4: resizer.sandbox: must be "require", "best-effort" or "off", not \'on\''),
        # ranges
        ("cache.size = '1KiB'", "F:3: cache.size: must be 64KiB to 1024TiB, not '1KiB'"),
        ("[resizer]\nqueue = 0", "F:4: resizer.queue: must be 1 to 100000, not 0"),
        ("[connection]\nidle = '2h'", "F:4: connection.idle: must be 10ms to 1h, not '2h'"),
        ("cache.size = '10GB'",
         "F:3: cache.size: unit 'GB' is none of KiB, MiB, GiB, TiB; write \"10GiB\""),
        ("listen = []", "F:3: listen: must have 1 to 1000 items, not 0"),
        ("listen = ['a:1', 'A:1']", 'F:3: listen: "a:1" is there twice'),
        # names and texts
        ("name = 'a b'",
         "F:3: name: must be letters, digits, - . and _, and start with a letter, not 'a b'"),
        ("user = 'a:b'", "F:3: user: must be the name of an account, not 'a:b'"),
        ("user = ''", "F:3: user: must be the name of an account, not ''"),
        ("user = 'nosuchuser'", "F:3: user: there is no user nosuchuser on this machine"),
        ("group = 'nosuchgroup'", "F:3: group: there is no group nosuchgroup on this machine"),
        ("pid_file = 'run.pid'", "F:3: pid_file: must be an absolute path, not 'run.pid'"),
        ("[log]\naccess = 'access.log'",
         "F:4: log.access: must be an absolute path, \"-\" or \"off\", not 'access.log'"),
        ("cache.index = 'redis+sentinel://a,b/'",
         ("F:3: cache.index: needs the name of a service behind its hosts, of letters, digits,"
          " - . and _: redis+sentinel://HOST,HOST/SERVICE/0")),
        ("cache.index = 'redis+cluster://a,b/1'",
         "F:3: cache.index: names a database, and a cluster has no other than 0"),
    ],
)  # fmt: skip
def test_one_mistake(place: Place, text: str, problem: str) -> None:
    text = text.replace("{root}", str(place.root))
    if "site" not in text:
        text += f"\n{place.site}"
    assert place.problems(text) == [problem]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("keys = ['x']", "not available in this release: URLs are not signed yet"),
        ("auth = {}", "not available in this release"),
        ("root = 'originals'", "must be an absolute path"),
        ("root = '/nonexistent'", "/nonexistent does not exist"),
        ("root = '/etc/passwd'", "/etc/passwd is not a directory"),
        ("root = ''", "must be an absolute path"),
        ("root = \"/a\\u0000b\"", "holds a control character"),
        ("origin = 'app'", 'no [[origin]] is named "app" (there is none)'),
        ("prefix = 'img'", "must be empty or start with /"),
        ("prefix = '/img/'", "must be empty or start with /"),
        ("prefix = '/a/../b'", "segment '..'"),
        ("prefix = '/a%2f'", "segment 'a%2f'"),
        ("steps = [40, 20]", "must be in ascending order"),
        ("steps = [20, 20]", "20 is there twice"),
        ("steps = [0]", "must be 1 to 16384, not 0"),
        ("steps = ['20']", "must be a whole number"),
        ("steps = [20.5]", "must be a whole number"),
        ("grammars = ['wikipdia']", "not 'wikipdia'"),
        ("grammars = ['query', 'query']", '"query" is there twice'),
        ("off_step = 'up'", 'must be "round", "redirect", "reject" or "allow"'),
        ("extensions = ['.jpg']", "without its dot"),
        ("hosts = ['a:80']", "without a port"),
        ("purge_from = ['10.0.0.1/8']", 'did you mean "10.0.0.0/8"?'),
        ("purge_from = '10.0.0.1'", 'write ["10.0.0.1"]'),
        ("[site.cors]", "not available in this release"),
        ("[site.expire]\nmax_age = '-1s'", "must be a time"),
        ("[site.expire]\nimmutable = 'yes'", "must be true or false, without quotes, not 'yes'"),
        ("[site.limits]\nmax_sauce = 1", "unknown setting"),
    ],
)  # fmt: skip
def test_one_mistake_in_a_site(place: Place, line: str, problem: str) -> None:
    has_root = not line.startswith("root")
    problems = place.problems(f"{place.site if has_root else '[[site]]'}\n{line}\n")
    assert len(problems) == 1 and problem in problems[0], problems
    # Lines 3 and 4, or 3 alone, are the site; then the empty one, then ours, or its second.
    at = (6 if has_root else 4) + line.count("\n")
    assert problems[0].startswith(f"F:{at}: site.")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("kind = 'uwsgi'", 'must be "fastcgi", "http", "cgi" or "s3", not \'uwsgi\''),
        ("tls = true", 'means nothing where kind = "fastcgi"'),
        ("s3.bucket = 'pics'", 'means nothing where kind = "fastcgi"'),
        ("sendfile_roots = ['srv']", "must be an absolute path, not 'srv'"),
        ("sendfile_roots = ['/']", "must be a folder, without . and .., and not the whole tree"),
        ("sendfile_roots = ['/srv/../etc']", "must be a folder, without . and .."),
        ("sendfile_roots = ['p=/srv']", "must be empty or start with /"),
        ("sendfile_roots = ['/nowhere/at/all']", "/nowhere/at/all does not exist"),
        ("sendfile_roots = ['/tmp', '/tmp']", "is there twice"),
        ("balance = 'random'", "not 'random'"),
        ("timeout = '0s'", "must be 10ms to 1h"),
        ("total_timeout = '2d'", "must be 10ms to 1d"),
        ("backup = ['a:9000']", "a:9000 is one of the hosts already"),
        ("weights = { 'b:9000' = 2 }", "b:9000 is none of the hosts"),
        ("weights = { 'a:9000' = 0 }", "must be 1 to 100, not 0"),
        ("weights = { 'a:9000' = 2, 'A:9000' = 3 }", "a:9000 is there twice"),
        ("weights = { a = 2 }", "must be HOST:PORT"),
        ("max_per_host = 0", "must be 1 to 10000, not 0"),
        ("keep_connections = -1", "must be 0 to 1000, not -1"),
        ("probe = 'health'", "must be a path like /health"),
        ("probe = '/a?b'", "must be a path like /health"),
        ("probe = '/a b'", "must be a path like /health"),
        ("probe = 'GET-VALUES'", "must be a path like /health"),
    ],
)
def test_one_mistake_in_an_origin(place: Place, line: str, problem: str) -> None:
    problems = place.problems(f"{ORIGIN}{line}\n[[site]]\norigin = 'app'\n")
    assert len(problems) == 1 and problem in problems[0], problems
    assert problems[0].startswith("F:7: origin.")


def test_an_origin_with_everything_reads_back(place: Place) -> None:
    lines = (
        "balance = 'p2c'\nbackup = ['[::1]:9000']\nkeep_connections = 3\nmax_per_host = 7\n"
        "weights = { 'A:9000' = 2, \"[::1]:9000\" = 5 }\nprobe = '/health'\n"
        "probe_interval = '1s'\nprobe_timeout = '500ms'\ntotal_timeout = '1h'\n"
    )
    config = place.load(f"{ORIGIN}{lines}[[site]]\norigin = 'app'\n")
    (origin,) = config.origins
    assert origin.weights == (("a:9000", 2), ("[::1]:9000", 5))
    assert (origin.probe, origin.keep_connections, origin.max_per_host) == ("/health", 3, 7)
    place.head = ""
    assert place.load(config.toml()) == config
    bare = place.load(f"{ORIGIN}[[site]]\norigin = 'app'\n").origins[0]
    assert (bare.keep_connections, bare.probe, bare.weights) == (0, None, ())


# Settings of an [[origin]] beside its name, and what is wrong with them.
KINDS = [
    ("kind = 'http'\nhosts = ['a:80']", []),
    ("kind = 'http'\nhosts = ['a:443', 'b:443']\ntls = true\ntls_name = 'app.internal'", []),
    ("kind = 'http'\nhosts = ['a:443']\nhost_header = 'App.internal:8443'", []),
    ("kind = 'cgi'\nscript_filename = '/bin/true'", []),
    ("kind = 's3'\ns3.bucket = 'pics'", []),
    ("kind = 's3'\ns3 = { bucket = 'pics', endpoint = 'http://[::1]:9000' }", []),
    ("kind = 's3'\ns3 = { bucket = 'pics', access_key = 'a', secret_key = 'b' }", []),
    ("kind = 's3'\nprobe = '/sub/a.jpg'\ns3 = { bucket = 'pics', virtual_host = true }", []),
    ("kind = 's3'\ns3 = { bucket = 'a.b', virtual_host = true, endpoint = 'http://a:9000' }", []),
    ("kind = 'http'", ['hosts: is missing: kind = "http" connects to them']),
    ("kind = 'http'\nhosts = ['a:80']\nscript_filename = '/i.php'",
     ['script_filename: means nothing where kind = "http"']),
    ("kind = 'http'\nhosts = ['unix:/run/a']\ntls = true", ["is not spoken over unix sockets"]),
    ("kind = 'http'\nhosts = ['a:80']\ntls = true\ntls_ca = '/dev/null'",
     ["tls_ca: /dev/null cannot be used"]),
    ("kind = 'http'\nhosts = ['a:80']\nhost_header = 'http://b'",
     ["host_header: 'http://b' must be HOST or HOST:PORT"]),
    ("kind = 'cgi'\nscript_filename = '/bin/true'\nhost_header = 'b'",
     ['host_header: means nothing where kind = "cgi"']),
    ("kind = 'cgi'", ['script_filename: is missing: kind = "cgi" needs it']),
    ("kind = 'cgi'\nscript_filename = '/bin'", ["/bin is no file on this machine"]),
    ("kind = 'cgi'\nscript_filename = '/etc/passwd'", ["/etc/passwd cannot be executed"]),
    ("kind = 'cgi'\nscript_filename = '/bin/true'\nhosts = ['a:80']",
     ['hosts: means nothing where kind = "cgi"']),
    ("hosts = ['a:9000']\nscript_filename = '/i.php'\nprobe = 'get-values'", []),
    ("kind = 'http'\nhosts = ['a:80']\nprobe = 'get-values'",
     ['probe: "get-values" is no question to kind = "http"']),
    ("kind = 's3'", ["s3.bucket: is missing"]),
    ("kind = 's3'\ns3.bucket = 'p/cs'", ["must be the name of a bucket, not 'p/cs'"]),
    ("kind = 's3'\ns3 = { bucket = 'pics', prefix = 'a/../b' }", ["must be like pictures/2026"]),
    ("kind = 's3'\ns3 = { bucket = 'pics', secret_key = 'hidden' }",
     ["access_key: and secret_key need each other"]),
    ("kind = 's3'\ns3 = { bucket = 'pics', secret_key = 'hid den' }",
     ["secret_key: must be printable ASCII without spaces"]),
    ("kind = 's3'\ns3 = { bucket = 'pics', secret_key = 7 }", ["must be a secret, in quotes"]),
    ("kind = 's3'\ns3 = { bucket = 'pics', anonymous = true, access_key = 'a', secret_key = 'b' }",
     ["anonymous: signs nothing"]),
    ("kind = 's3'\ntls_ca = '/dev/null'\ns3.bucket = 'pics'",
     ["tls_ca: /dev/null cannot be used"]),
    ("kind = 's3'\ntls = true\ns3.bucket = 'pics'", ["s3.endpoint says https, or http"]),
    *(
        (f"kind = 's3'\nprobe = '{path}'\ns3.bucket = 'pics'", ["names no object"])
        for path in ("/", "/a/", "//a", "/a/../b")
    ),
    *(
        (f"kind = 's3'\ns3 = {{ bucket = '{name}', virtual_host = true{more} }}", [problem])
        for name, more, problem in [
            ("my.pics", "", 'with "." in the name of the bucket no certificate is valid'),
            ("my.pics", ", endpoint = 'https://a'", 'with "." in the name'),
            ("pics", ", endpoint = 'http://192.0.2.1:9000'", "has an address, 192.0.2.1"),
            ("pics", ", endpoint = 'http://[::1]:9000'", "has an address"),
            ("p" * 64, "", "cannot be a part of a host's"),
        ]
    ),
    *(
        (f"kind = 's3'\ns3 = {{ bucket = 'pics', endpoint = '{text}' }}", [problem])
        for text, problem in [
            ("s3.example.org", "must be like"),
            ("ftp://s3.example.org", "must be like"),
            ("https://user:pass@s3.example.org", "without path, login or query"),
            ("https://s3.example.org/bucket", "without path, login or query"),
            ("https://unix:/run/s3", "without path"),
            ("https://s3.example.org:0", "port 0"),
        ]
    ),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), KINDS)
def test_what_each_kind_needs(place: Place, lines: str, expected: list[str]) -> None:
    text = f"[[origin]]\nname = 'app'\n{lines}\n{place.site}origin = 'app'\n"
    if not expected:
        place.load(text)
        return
    problems = place.problems(text)
    assert [want in problem for want, problem in zip(expected, problems, strict=True)] == [True]
    assert "hid" not in "".join(problems)


def test_an_extra_that_is_not_there_is_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    text = f"[[origin]]\nname = 'app'\nkind = 's3'\ns3.bucket = 'pics'\n{place.site}"
    assert place.problems(text) == [
        'F:5: origin.kind: "s3" needs an extra: pip install "halftone[s3]"'
    ]


def test_a_secret_is_shown_nowhere(place: Place) -> None:
    text = f"[[origin]]\nname = 'app'\nkind = 's3'\n{place.site}"
    one, other = (
        place.load(
            text,
            {
                "HALFTONE__ORIGIN__0__S3__BUCKET": "pics",
                "HALFTONE__ORIGIN__0__S3__ACCESS_KEY": "id",
                "HALFTONE__ORIGIN__0__S3__SECRET_KEY": secret,
            },
        )
        for secret in ("hidden1", "hidden2")
    )
    assert one.origins[0].s3.secret_key.reveal() == "hidden1"
    assert 'secret_key = "***"' in one.toml()
    assert "hidden" not in one.toml() + repr(one) + str(one.origins[0].s3.secret_key)
    assert one.digest() != other.digest()  # another secret is another configuration


def test_what_is_required(place: Place) -> None:
    # The site's reference is right, and must not be reported for the origin's mistakes.
    assert place.problems("[[origin]]\nname = 'app'\nhosts = []\n[[site]]\norigin = 'app'") == [
        'F:3: origin.script_filename: is missing: kind = "fastcgi" needs it',
        'F:5: origin.hosts: is missing: kind = "fastcgi" connects to them',
    ]
    assert place.problems("[[site]]\nhosts = ['a']") == ["F:3: site: needs root, origin, or both"]
    assert place.problems("")[0].startswith("F: site: there is none")


def test_all_mistakes_in_the_order_of_the_file(place: Place) -> None:
    text = (
        "worker = 1\n[resizer]\nqueue = -1\n" + ORIGIN + ORIGIN.replace("/i.php", "i.php")
        + place.site + "hosts = ['a', 'b']\n[[site]]\nhosts = ['B']\norigin = 'ap'\n"
        + place.site + place.site
    )  # fmt: skip
    assert place.problems(text, {"HALFTONE__LOG__FORMAT": "xml"}) == [
        'F:3: worker: unknown setting; did you mean "workers"?',
        "F:5: resizer.queue: must be 1 to 100000, not -1",
        'F:11: origin.name: "app" is taken by another origin',
        "F:13: origin.script_filename: must be an absolute path, not 'i.php'",
        "F:18: site.hosts: b belongs to another site already",
        'F:19: site.origin: no [[origin]] is named "ap" (app)',
        "F:22: site: is a second default site; all but one need hosts",
        'environment HALFTONE__LOG__FORMAT: must be "combined" or "json", not \'xml\'',
    ]


@pytest.mark.parametrize(
    ("listen", "admin", "word"),
    [
        (["127.0.0.1:1"], "127.0.0.1:1", "admin"),
        (["0.0.0.0:1"], "127.0.0.1:1", "admin"),
        (["[::]:1"], "[::1]:1", "admin"),
        (["unix:/run/a"], "unix:/run/a", "admin"),
        (["0.0.0.0:2", "127.0.0.1:2"], "127.0.0.1:1", "cannot both be bound"),
        # legal
        (["127.0.0.1:0"], "127.0.0.1:0", None),
        (["[::]:1"], "127.0.0.1:1", None),
        (["127.0.0.2:1", "127.0.0.3:1"], "127.0.0.1:1", None),
    ],
)
def test_listeners_that_collide(
    place: Place, listen: list[str], admin: str, word: str | None
) -> None:
    text = f"listen = {listen}\nadmin = '{admin}'\n{place.site}"
    if word is None:
        place.load(text)
    else:
        (problem,) = place.problems(text)
        assert word in problem and problem.startswith(("F:3: listen:", "F:4: admin:"))


def test_the_cache_folder(place: Place) -> None:
    (place.folder / "file").touch()
    for path, problem in (
        (place.folder / "file", "cannot be used: not a directory"),
        (place.folder / "file" / "x", "cannot be made"),
        (place.folder, "lies inside the cache"),
        (place.root, "lies inside the cache"),
    ):
        place.head = f"cache.path = '{path}'\n"
        (found,) = place.problems(place.site)
        assert problem in found
    place.head = f"cache.path = '{place.folder}/a/b/c'\n"
    place.load(place.site)
    assert not (place.folder / "a").exists()  # checked, not made


def test_several_cache_folders(place: Place) -> None:
    place.head = f"cache.path = '{place.folder}/cache'\n"

    def problems(*folders: object, more: str = "") -> list[str]:
        written = ", ".join(f"'{folder}'" for folder in folders)
        return place.problems(f"cache.folders = [{written}]\n{more}{place.site}")

    for folder in ("cache", "cache/below", "."):
        (found,) = [p for p in problems(place.folder / folder) if "originals" not in p]
        assert "cache.folders: " in found and "are not apart" in found
    (found,) = problems(place.folder / "x", place.folder / "x" / "y")
    assert "x/y" in found and "are not apart" in found
    (found,) = problems(place.root)
    assert "lies inside the cache" in found
    (found,) = problems("relative")
    assert "absolute path" in found
    # Names that begin alike are apart, and one that cannot be used is no reason not to start.
    (place.folder / "file").touch()
    config = place.load(
        f"cache.folders = ['{place.folder}/cache2', '{place.folder}/file']\n{place.site}"
    )
    assert len(config.cache.folders) == 2
    assert (config.cache.min_free, config.cache.scrub) == (64 * 2**20, 2**20)
    assert config.cache.durability == "none"
    # Nor is the first one where the index is elsewhere.
    place.head = f"cache.path = '{place.folder}/file'\n"
    more = f"cache.folders = ['{place.folder}/x']\n{place.site}"
    assert "not a directory" in place.problems(more)[0]
    place.load(f"cache.index = 'redis://h'\n{more}")


def test_permissions() -> None:
    with nobodys_folder() as folder, as_nobody():
        place = Place(folder)
        place.file.write_text(place.head + place.site)
        place.root.chmod(0)
        folder.chmod(0o500)
        with pytest.raises(ConfigError) as caught:
            load(str(place.file), {}, {})
        folder.chmod(0o700)
        place.root.chmod(0o700)
    problems = list(map(str, caught.value.problems))
    assert [p for p in problems if "cannot be read" in p] and len(problems) == 2


def test_files_that_are_none(place: Place) -> None:
    for raw, problem in (
        (b"a = 1\nb = '\xff'\n", ":2: is not UTF-8"),
        (b"a = 1\nb = \n", ":2: Invalid value"),
        (b"#" * (4 * 2**20 + 1), ": is larger than"),
    ):
        place.file.write_bytes(raw)
        with pytest.raises(ConfigError) as caught:
            load(str(place.file), {}, {})
        assert str(caught.value).startswith(f"{place.file}{problem}")
    for path in (place.folder / "none.toml", place.folder):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(str(path), {}, {})


# ---- environment and command line ---------------------------------------------------------------


def test_command_line_over_environment_over_file(place: Place) -> None:
    text = "[resizer]\nqueue = 1\n[connection]\nmax_connections = 1\n" + place.site
    config = place.load(
        text,
        {"HALFTONE__RESIZER__QUEUE": "2", "HALFTONE__ADMIN": "127.0.0.1:2", "OTHER": "x"},
        admin="127.0.0.1:3",
    )
    assert (config.connection.max_connections, config.resizer.queue) == (1, 2)
    assert config.admin == TcpAddress("127.0.0.1", 3)


@pytest.mark.parametrize(
    ("name", "text", "dumped"),
    [
        ("LISTEN", "127.0.0.1:1, [::1]:2", 'listen = ["127.0.0.1:1", "[::1]:2"]'),
        ("USER", "daemon", 'user = "daemon"'),
        ("PID_FILE", "/run/x.pid", 'pid_file = "/run/x.pid"'),
        ("LISTEN", '["127.0.0.1:1"]', 'listen = ["127.0.0.1:1"]'),
        ("TRUSTED_PROXIES", "", "trusted_proxies = []"),
        ("FORWARDED", "forwarded", 'forwarded = "forwarded"'),
        ("CACHE__SIZE", "10GiB", 'size = "10GiB"'),
        ("CACHE__MEMORY", "4096", 'memory = "4KiB"'),
        ("RESIZER__PROCESSES", "2", "processes = 2"),
        ("RESIZER__PROCESSES", "auto", 'processes = "auto"'),
        ("CONNECTION__IDLE", "2m", 'idle = "2m"'),
        ("SITE__0__STEPS", "20,40", "steps = [20, 40]"),
        ("SITE__0__EXPIRE__IMMUTABLE", "true", "immutable = true"),
        ("SITE__0__PREFIX", "/img", 'prefix = "/img"'),
        ("SITE__0__GRAMMARS", "query", 'grammars = ["query"]'),
    ],
)
def test_the_environment_sets(place: Place, name: str, text: str, dumped: str) -> None:
    config = place.load(place.site, {f"HALFTONE__{name}": text})
    assert dumped in config.toml().splitlines()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("CACHE__SIZ", "1", 'unknown setting; did you mean "HALFTONE__CACHE__SIZE"?'),
        ("CACH__SIZE", "1", 'unknown setting; did you mean "HALFTONE__CACHE__SIZE"?'),
        ("CACHE", "1", "is a section; name one of its settings"),
        ("", "1", "unknown setting"),
        ("CACHE__SIZE__X", "1", "size is a setting, nothing stands below it"),
        ("SITE__ROOT", "/", "needs a number behind SITE: __0 is the first"),
        ("SITE", "/", "needs a number behind SITE: __0 is the first"),
        ("SITE__２__ROOT", "/", "needs a number behind SITE: __0 is the first"),
        ("SITE__7__ROOT", "/", "number 1 would be the next one"),
        ("SITE__0__KEYS", "x", "not available in this release"),
        ("SITE__0__ROOT", "/nonexistent", "/nonexistent does not exist"),
        ("RESIZER__QUEUE", "６", "must be a whole number"),
        ("RESIZER__QUEUE", "1e3", "must be a whole number"),
        ("RESIZER__QUEUE", "9" * 5000, "must be a whole number"),
        ("LISTEN", "[", "must be a list"),
        ("LISTEN", "[]\nadmin = 1", "must be a list"),
        ("LISTEN", "a:1,", "must be HOST:PORT"),
        ("SITE__0__STEPS", "20,x", "must be a whole number"),
        ("SITE__0__EXPIRE__IMMUTABLE", "1", "must be true or false"),
    ],
)
def test_a_mistake_in_the_environment(place: Place, name: str, text: str, message: str) -> None:
    (problem,) = place.problems(place.site, {f"HALFTONE__{name}": text})
    assert problem.startswith(f"environment HALFTONE__{name}: ") and message in problem


def test_the_environment_alone_makes_sites(place: Place) -> None:
    environ = {
        "HALFTONE__CACHE__PATH": f"{place.folder}/cache",
        "HALFTONE__ORIGIN__0__NAME": "app",
        "HALFTONE__ORIGIN__0__HOSTS": "php:9000",
        "HALFTONE__ORIGIN__0__SCRIPT_FILENAME": "/i.php",
        **{f"HALFTONE__SITE__{n}__HOSTS": f"h{n}" for n in range(12)},
        **{f"HALFTONE__SITE__{n}__ORIGIN": "app" for n in range(12)},
    }
    config = load(None, environ, {})
    assert [site.hosts for site in config.sites] == [(f"h{n}",) for n in range(12)]
    with pytest.raises(ConfigError, match="environment HALFTONE__SITE__0__HOSTS: needs root"):
        load(None, {"HALFTONE__SITE__0__HOSTS": "a"}, {"cache.path": f"{place.folder}/cache"})


def test_a_mistake_on_the_command_line(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"\Acommand line: cache.size: must be a size"):
        load(None, {}, {"cache.size": "big"}, is_checked=False)


def test_reload_reads_again(place: Place) -> None:
    config = place.load(place.site, {"HALFTONE__NAME": "env"})
    assert config.reload is not None
    place.file.write_text(place.head + "resizer.queue = 7\n" + place.site)
    again = config.reload()
    assert (again.resizer.queue, again.name) == (7, "env")
    place.file.write_text("nonsense")
    assert again.reload is not None
    with pytest.raises(ConfigError):
        again.reload()


# ---- zero configuration -------------------------------------------------------------------------


def test_for_folder(place: Place) -> None:
    environ = {"HOME": str(place.folder)}
    config = Config.for_folder(str(place.root), environ=environ)
    (site,) = config.sites
    assert (site.root, site.hosts, site.grammars) == (str(place.root), (), tuple(Grammar))
    assert list(map(str, config.listen)) == ["127.0.0.1:8080"]
    assert config.cache.path.startswith(f"{place.folder}/.cache/halftone/")
    # The same folder finds its cache again, by whatever name; another folder has another.
    other = place.folder / "other"
    other.mkdir()
    link = place.folder / "link"
    link.symlink_to(place.root)
    paths = [
        Config.for_folder(str(p), environ=environ).cache.path for p in (place.root, link, other)
    ]
    assert paths[0] == config.cache.path == paths[1] != paths[2]


def test_for_folder_takes_options_and_environment(place: Place) -> None:
    config = Config.for_folder(
        str(place.root),
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        cache=f"{place.folder}/c",
        environ={"HALFTONE__CACHE__SIZE": "1GiB", "HALFTONE__LISTEN": "127.0.0.1:9"},
    )
    assert list(map(str, (*config.listen, config.admin))) == ["127.0.0.1:0", "127.0.0.1:0"]
    assert (config.cache.path, config.cache.size) == (f"{place.folder}/c", 2**30)
    assert config.reload is not None and config.reload() == config


@pytest.mark.parametrize(
    ("environ", "start"),
    [
        ({"XDG_CACHE_HOME": "{folder}/x", "HOME": "/nonexistent"}, "{folder}/x/halftone/"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "{folder}"}, "{folder}/.cache/halftone/"),
        ({"XDG_CACHE_HOME": "", "HOME": "{folder}"}, "{folder}/.cache/halftone/"),
        ({"HALFTONE__CACHE__PATH": "{folder}/y", "HOME": "{folder}"}, "{folder}/y"),
    ],
)
def test_the_cache_of_a_folder(place: Place, environ: dict[str, str], start: str) -> None:
    filled = {name: text.replace("{folder}", str(place.folder)) for name, text in environ.items()}
    config = Config.for_folder(str(place.root), environ=filled)
    assert config.cache.path.startswith(start.replace("{folder}", str(place.folder)))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["cache", "site", "origin", "listen", "log", "x"]),
                       st.recursive(st.one_of(st.integers(), st.text(max_size=5), st.booleans()),
                                    lambda inner: st.one_of(
                                        st.lists(inner, max_size=2),
                                        st.dictionaries(
                                            st.sampled_from(["path", "root", "hosts", "name"]),
                                            inner, max_size=3)),
                                    max_leaves=6)))  # fmt: skip
def test_any_values_end_in_a_config_or_in_problems(values: dict[str, object]) -> None:
    document = "\n".join(f"{json.dumps(k)} = {_toml_any(v)}" for k, v in values.items())
    path = (
        Path("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp") / f"halftone-{os.getpid()}.toml"
    )
    path.write_text(document)
    try:
        load(str(path), {"HALFTONE__SITE__0__ROOT": "/", "HALFTONE__CACHE__PATH": "/x"}, {})
    except ConfigError as error:
        places = [p.place for p in error.problems]
        assert places and all(p.startswith((str(path), "environment ")) for p in places)
    finally:
        path.unlink()


def _toml_any(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml_any(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_any, value)) + "]"
    return json.dumps(value).replace("\x7f", "\\u007f")


def test_each_setting_reports_under_its_own_name(tmp_path: Path) -> None:
    """A date is the wrong type for every setting: as many problems as there are settings."""
    names, table = [], ""
    for line in default_text().splitlines():
        bare = line.removeprefix("#")
        if line.startswith("# ") or not bare:
            continue
        if bare.startswith("["):
            table = bare.strip("[]") + "."
        else:
            names.append(table + bare.split(" = ")[0])
    lines = [line.removeprefix("#") for line in default_text().splitlines() if line[:2] != "# "]
    file = tmp_path / "halftone.toml"
    file.write_text(
        "\n".join(f"{line.split(' = ')[0]} = 1979-05-27" if "=" in line else line for line in lines)
    )
    with pytest.raises(ConfigError) as caught:
        load(str(file), {}, {})
    assert [problem.setting for problem in caught.value.problems] == names


def test_negotiation(place: Place) -> None:
    config = place.load(
        place.site
        + "[site.negotiate]\nformats = ['webp', 'avif']\nsave_data = true\nclient_hints = true\n"
        "upgrade = false\n"
    )
    negotiate = config.sites[0].negotiate
    assert [one.value for one in negotiate.formats] == ["webp", "avif"]
    assert (negotiate.save_data, negotiate.client_hints, negotiate.upgrade) == (True, True, False)
    usual = place.load(place.site).sites[0].negotiate
    assert (usual.formats, usual.save_data, usual.client_hints, usual.upgrade) == (
        *((), False, False),
        True,
    )
    for wrong in ("formats = ['jpeg']", "formats = 'avif'", "save_data = 'on'", "format = []"):
        assert place.problems(f"{place.site}[site.negotiate]\n{wrong}\n")


def pictures(place: Place, text: str) -> str:
    return f"{place.site}[site.pictures]\n{text}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # wrong types and limits
        ("sharpen = 1", "F:6: site.pictures.sharpen: must be true or false, without quotes, not 1"),
        ("quality_jpeg = 0", "F:6: site.pictures.quality_jpeg: must be 1 to 100, not 0"),
        ("quality_png = 9",
         'F:6: site.pictures.quality_png: unknown setting; did you mean "quality_jpeg"?'),
        ("inputs = ['heic']",
         "F:6: site.pictures.inputs: must be \"tiff\" or \"jpeg2000\", not 'heic'"),
        ("watermarks = ['/logo.png']",
         ("F:6: site.pictures.watermarks: must be a table of names, with an absolute path each, in"
         " curly brackets, not a list")),
        # each on the line of its own name
        ("watermarks = { logo = 'logo.png' }",
         "F:6: site.pictures.watermarks.logo: must be an absolute path, not 'logo.png'"),
        ("[site.pictures.watermarks]\nlogo = '{mark}'\n\nseal = '/none/seal.png'",
         ("F:9: site.pictures.watermarks.seal: /none/seal.png cannot be read: No such file or"
         " directory")),
        ("[site.pictures.watermarks]\nlogo = '{mark}'\nLogo = '{mark}'",
         ("F:8: site.pictures.watermarks.Logo: must be named by 1 to 32 of a-z, 0-9 and -,"
         " not 'Logo'")),
        ("watermarks.logo = 3",
         "F:6: site.pictures.watermarks.logo: must be an absolute path, in quotes"),
        ("watermarks.logo = '{folder}'",
         "F:6: site.pictures.watermarks.logo: {folder} is not a file"),
        ("watermarks.logo = '{link}'",
         "F:6: site.pictures.watermarks.logo: {link} is a symbolic link"),
        ("watermarks.logo = '{large}'",
         "F:6: site.pictures.watermarks.logo: {large} has 2097153 bytes, 2097152 are the most"),
    ],
)  # fmt: skip
def test_problems_of_looks(place: Place, text: str, problem: str) -> None:
    names = {"mark": "mark.png", "link": "link.png", "large": "large.png", "folder": "originals"}
    paths = {name: str(place.folder / file) for name, file in names.items()}
    Path(paths["mark"]).write_bytes(b"")
    Path(paths["link"]).symlink_to(paths["mark"])
    Path(paths["large"]).write_bytes(bytes(2**21 + 1))
    for name, path in paths.items():
        text, problem = text.replace(f"{{{name}}}", path), problem.replace(f"{{{name}}}", path)
    assert place.problems(pictures(place, text)) == [problem]


def test_too_many_watermarks(place: Place) -> None:
    items = ", ".join(f"m{number} = '/m'" for number in range(33))
    assert place.problems(pictures(place, f"watermarks = {{ {items} }}")) == [
        "F:6: site.pictures.watermarks: must have 32 items at most, not 33"
    ]


def test_looks_read_back(place: Place) -> None:
    mark = place.folder / 'a "mark", of ours.png'
    mark.write_bytes(b"")
    config = place.load(
        pictures(
            place,
            f"sharpen = true\nprogressive = true\nquality_avif = 44\ninputs = ['jpeg2000', 'tiff']"
            f"\nwatermarks = {{ logo = {json.dumps(str(mark))}, 2-nd = '/dev/../{mark}' }}",
        )
    )
    found = config.sites[0].pictures
    assert (found.sharpen, found.progressive, found.inputs) == (True, True, ("jpeg2000", "tiff"))
    assert (found.quality_avif, found.quality_jpeg, found.quality_webp) == (44, None, None)
    assert [name for name, _ in found.watermarks] == ["logo", "2-nd"]
    place.head = ""
    assert place.load(config.toml()) == config
    bare = place.load(place.site)
    assert place.load(bare.toml()) == bare
    assert bare.sites[0].pictures.watermarks == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("logo={mark}", ["logo"]),
        (" logo = {mark} , seal={mark}", ["logo", "seal"]),
        ('{ logo = "{mark}" }', ["logo"]),
        ("", []),
        ("{}", []),
        ("logo", None),
        ("{ logo", None),
        ("{}\nx = 1", None),
        ("logo=mark.png", None),
    ],
)
def test_watermarks_from_the_environment(
    place: Place, text: str, expected: list[str] | None
) -> None:
    mark = place.folder / "mark.png"
    mark.write_bytes(b"")
    environ = {"HALFTONE__SITE__0__PICTURES__WATERMARKS": text.replace("{mark}", str(mark))}
    if expected is None:
        assert place.problems(place.site, environ)[0].startswith("environment ")
        return
    found = place.load(place.site, environ).sites[0].pictures.watermarks
    assert found == tuple((name, str(mark)) for name in expected)
