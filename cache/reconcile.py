"""The other half of `halftone fsck`: whole entries and the index, compared both ways.

Of each file (check.py has looked at what it says of itself):

    listed     it is current, and the index lists it, or has MAX_MEMBERS of its source already
    unlisted   it is current, and the index does not list it. fix lists it.
    stale      its source was purged: nobody is served from it, and it goes when room is needed.
               fix removes it.
    suspect    its token says nothing here: the index was lost since, or does not know the source.
               It is served once its original was asked; left alone.

Of each entry that the index lists: missing, when no folder has it. fix takes it from the list. Only
an index of this node alone can tell; in a shared one the others' entries are listed, too.

None of these harms, since what is listed is a hint and the token decides: a crash between record
and rename, or a fill while the index gave no answer, leaves one. So they are differences, and
problems are what is wrong with the files, and what could not be looked at.

May run beside a node. A fill records before it renames, an eviction forgets and a purge raises
before they unlink; so what differs is looked at again SETTLE_S later, and counts when it still
does. Files that an order of the log has purged count as stale when somebody has asked for their
source since.
"""

import asyncio
import contextlib
import enum
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from cache import files
from cache.check import MAX_PROBLEMS, Fault, Found, Report, check, maybe_token
from cache.errors import IndexUnavailable
from cache.index.interface import MAX_MEMBERS, Index, Known, Member, Token
from cache.layout import path_of

T = TypeVar("T")

# Between two looks at what differs; a rename follows its record within milliseconds.
SETTLE_S: Final = 0.25
# Files between two rests, and how long they may take: a hit of the node waits no longer for a CPU.
BATCH: Final = 256
BATCH_S: Final = 0.05
# Listed entries asked for at a time: the embedded index answers nobody else for 1 ms.
PAGE: Final = 500
# Resting so much longer than working leaves a node two thirds of a disk.
REST: Final = 2.0
# A busy index is asked again; then the comparison ends.
TRIES: Final = 4


class Difference(enum.StrEnum):
    UNLISTED = "unlisted"
    MISSING = "missing"
    STALE = "stale"


class _Verdict(enum.Enum):
    LISTED = "listed"
    UNLISTED = "unlisted"
    STALE = "stale"
    SUSPECT = "suspect"


@dataclass(frozen=True, slots=True)
class Remark:
    """name is printable: the digest's file, below a cache folder."""

    difference: Difference
    name: str
    is_mended: bool


@dataclass(slots=True)
class Findings:
    """files.entries == listed + unlisted + stale + suspect + gone + uncompared."""

    files: Report = field(default_factory=Report)
    listed: int = 0
    unlisted: int = 0
    stale: int = 0
    suspect: int = 0
    gone: int = 0  # evicted, replaced or purged between two looks
    uncompared: int = 0  # with the index, because of obstacle
    missing: int = 0
    mended: int = 0  # of the differences
    is_shared: bool = False  # nobody knows what is missing
    obstacle: str = ""  # why the comparison with the index ended early
    differences: list[Remark] = field(default_factory=list)  # the first MAX_PROBLEMS

    @property
    def is_clean(self) -> bool:
        return self.files.is_clean and not self.obstacle


class _Obstacle(Exception):
    """The comparison with the index cannot go on."""


def _never() -> bool:
    return False


async def reconcile(
    folders: Sequence[str],
    index: Index | None,
    remove_older: Callable[[bytes, Token], bool],
    *,
    fix: bool,
    rest: float = REST,
    is_stopping: Callable[[], bool] = _never,
    settle_s: float = SETTLE_S,
) -> Findings:
    """Check these folders, and compare with the index; None: there is none, all is suspect.

    remove_older(digest, token) unlinks an entry if it is older than the token. rest: how many times
    as long as it works it rests. is_stopping: asked now and then; True ends it with an obstacle.
    """
    findings = Findings()
    comparison = _Comparison(folders, index, remove_older, findings, fix=fix, settle_s=settle_s)
    walk = check(folders, findings.files, fix=fix)
    while True:
        began = time.monotonic()
        batch = await asyncio.to_thread(_next_batch, walk)
        if not batch:
            break
        if is_stopping():
            findings.obstacle = "the node is stopping"
            findings.uncompared += len(batch)
            return findings
        await comparison.compare(batch)
        await asyncio.sleep(rest * (time.monotonic() - began))
    await comparison.look_back(rest, is_stopping)
    return findings


def _next_batch(walk: Iterator[Found]) -> list[Found]:
    end = time.monotonic() + BATCH_S
    batch = []
    for found in itertools.islice(walk, BATCH):
        batch.append(found)
        if time.monotonic() > end:
            break
    return batch


class _Comparison:
    def __init__(
        self,
        folders: Sequence[str],
        index: Index | None,
        remove_older: Callable[[bytes, Token], bool],
        findings: Findings,
        *,
        fix: bool,
        settle_s: float,
    ) -> None:
        self._folders = folders
        self._index = index
        self._remove_older = remove_older
        self._findings = findings
        self._fix = fix
        self._settle_s = settle_s

    # From the files to the index

    async def compare(self, batch: Sequence[Found]) -> None:
        compared = 0
        try:
            for found, verdict in await self._judge_all(batch):
                compared += 1
                await self._count(found, verdict)
        except _Obstacle as obstacle:
            self._findings.obstacle = str(obstacle)
        self._findings.uncompared += len(batch) - compared

    async def _judge_all(
        self, batch: Sequence[Found]
    ) -> list[tuple[Found, tuple[_Verdict, Known | None] | None]]:
        """Each with what it is, and what the index said; None: it has gone."""
        judged: list[tuple[Found, tuple[_Verdict, Known | None] | None]] = [
            (found, await self._judge(found)) for found in batch
        ]
        doubtful = [at for at, (_, verdict) in enumerate(judged) if _differs(verdict)]
        if not doubtful:
            return judged
        await asyncio.sleep(self._settle_s)
        for at in doubtful:
            found = judged[at][0]
            # The index first: what is forgotten or purged by now may still be unlinked.
            verdict = await self._judge(found)
            is_there = await asyncio.to_thread(_is_there, found)
            judged[at] = (found, verdict if is_there else None)
        return judged

    async def _judge(self, found: Found) -> tuple[_Verdict, Known | None]:
        index = self._index
        if index is None:
            return _Verdict.SUSPECT, None
        known = await self._ask(lambda: index.look_up(found.key.source))
        return _verdict(found, known), known

    async def _count(self, found: Found, judged: tuple[_Verdict, Known | None] | None) -> None:
        findings = self._findings
        match judged:
            case None:
                findings.gone += 1
            case (_Verdict.LISTED, _):
                findings.listed += 1
            case (_Verdict.SUSPECT, _):
                findings.suspect += 1
            case (_Verdict.UNLISTED, _):
                findings.unlisted += 1
                self._note(Difference.UNLISTED, found.digest, await self._list(found))
            case (_Verdict.STALE, Known() as known):
                findings.stale += 1
                is_removed = self._fix and await asyncio.to_thread(
                    self._remove_older, found.digest, known.token
                )
                self._note(Difference.STALE, found.digest, is_removed)

    async def _list(self, found: Found) -> bool:
        index = self._index
        if not self._fix or index is None:
            return False
        return await self._ask(
            lambda: index.publish(found.key.source, found.token, found.digest, found.size)
        )

    # From the index to the files

    async def look_back(self, rest: float, is_stopping: Callable[[], bool]) -> None:
        index = self._index
        if index is None or self._findings.obstacle:
            return
        if not index.exclusive:
            self._findings.is_shared = True
            return
        after = b""
        try:
            while page := await self._page(index, after):
                if is_stopping():
                    raise _Obstacle("the node is stopping")
                began = time.monotonic()
                absent = await asyncio.to_thread(self._absent, page)
                if absent:
                    await asyncio.sleep(self._settle_s)
                    # The index first: an eviction forgets, then unlinks.
                    still = set(await self._page(index, after)) & set(absent)
                    absent = await asyncio.to_thread(
                        self._absent, [member for member in absent if member in still]
                    )
                    await self._count_missing(index, absent)
                after = page[-1].place
                await asyncio.sleep(rest * (time.monotonic() - began))
        except _Obstacle as obstacle:
            self._findings.obstacle = str(obstacle)

    async def _page(self, index: Index, after: bytes) -> tuple[Member, ...]:
        return await self._ask(lambda: index.listed(after, PAGE)) or ()

    def _absent(self, members: Sequence[Member]) -> list[Member]:
        """Those whose file no folder has. Raises _Obstacle where one cannot be asked."""
        with contextlib.ExitStack() as stack:
            try:
                roots = [_opened(folder, stack) for folder in self._folders]
                return [m for m in members if not any(_has(root, m.digest) for root in roots)]
            except OSError as error:
                raise _Obstacle(f"a cache folder cannot be read: {error}") from error

    async def _count_missing(self, index: Index, members: Sequence[Member]) -> None:
        if not members:
            return
        if self._fix:
            await self._ask(lambda: index.unlist(members))
        self._findings.missing += len(members)
        for member in members:
            self._note(Difference.MISSING, member.digest, self._fix)

    # What both are made of

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        if self._findings.obstacle:
            raise _Obstacle(self._findings.obstacle)
        for _ in range(TRIES - 1):
            try:
                return await question()
            except IndexUnavailable:
                await asyncio.sleep(self._settle_s)
        try:
            return await question()
        except IndexUnavailable as error:
            raise _Obstacle(f"the index gives no answer: {error}") from error

    def _note(self, difference: Difference, digest: bytes, is_mended: bool) -> None:
        findings = self._findings
        findings.mended += is_mended
        if len(findings.differences) < MAX_PROBLEMS:
            findings.differences.append(Remark(difference, path_of(digest), is_mended))


def _differs(judged: tuple[_Verdict, Known | None] | None) -> bool:
    return judged is not None and judged[0] in (_Verdict.UNLISTED, _Verdict.STALE)


def _verdict(found: Found, known: Known | None) -> _Verdict:
    if known is None:
        return _Verdict.SUSPECT
    if found.token.is_older_than(known.token):
        return _Verdict.STALE
    if found.token != known.token:  # of another epoch, or the index is an older copy
        return _Verdict.SUSPECT
    if found.digest in known.digests or len(known.digests) >= MAX_MEMBERS:
        return _Verdict.LISTED
    return _Verdict.UNLISTED


def _is_there(found: Found) -> bool:
    """It has its name still, and no newer entry has."""
    try:
        root = files.open_folder(found.folder)
    except OSError:
        return False
    try:
        return maybe_token(root, found.digest) == found.token
    finally:
        files.close_quietly(root)


def _opened(folder: str, stack: contextlib.ExitStack) -> int:
    root = files.open_folder(folder)
    stack.callback(files.close_quietly, root)
    return root


def _has(root: int, digest: bytes) -> bool:
    """Raises OSError where that cannot be told."""
    try:
        files.status_of(path_of(digest), root)
    except FileNotFoundError:
        return False
    return True


def account(findings: Findings) -> dict[str, object]:
    """For JSON: numbers by name, then particulars.

    problems are what makes the check end badly, differences what fix would put right besides,
    others what is left alone.
    """
    report = findings.files
    particulars = [
        {
            "fault": str(problem.fault),
            "path": problem.path,
            "detail": problem.detail,
            "mended": problem.is_removed,
        }
        for problem in report.problems
    ]
    left_alone = {str(Fault.FOREIGN), str(Fault.NEWER)}
    problems = [one for one in particulars if one["fault"] not in left_alone]
    if findings.obstacle:
        problems.append(
            {"fault": "uncompared", "path": "", "detail": findings.obstacle, "mended": False}
        )
    return {
        "files": report.entries,
        "bytes": report.entry_bytes,
        "being_written": report.running,
        "listed": findings.listed,
        "unlisted": findings.unlisted,
        "missing": None if findings.is_shared else findings.missing,
        "stale": findings.stale,
        "suspect": findings.suspect,
        "uncompared": findings.uncompared,
        **{str(fault): number for fault, number in report.faults.items()},
        "removed": report.removed,
        "mended": findings.mended,
        "clean": findings.is_clean,
        "problems": problems,
        "differences": [
            {"fault": str(remark.difference), "path": remark.name, "mended": remark.is_mended}
            for remark in findings.differences
        ],
        "others": [one for one in particulars if one["fault"] in left_alone],
    }
