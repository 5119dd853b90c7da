"""Results of pure functions, remembered; few of them, and made of no more than so many bytes. Pure.

functools.lru_cache bounds their number alone. Where a client chooses how large each is, a few
hundred of them would be as much memory as it likes.
"""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def remembered(most: int, most_bytes: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The bytes are those of the arguments, which stand for what is made of them. A failure is not
    remembered.

    What went before its time still counts until all of it goes: nothing is done for a hit.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        held = 0

        @functools.lru_cache(maxsize=most)
        @functools.wraps(function)
        def make(*args: P.args, **kwargs: P.kwargs) -> R:
            nonlocal held
            size = _size_of(*args)
            made = function(*args, **kwargs)
            held += size
            if held > most_bytes:
                make.cache_clear()
                held = size
            return made

        return cast("Callable[P, R]", make)

    return decorate


def _size_of(*arguments: object) -> int:
    """Of texts, and of fields; without what each object has beside its text."""
    size = 0
    for one in arguments:
        if isinstance(one, str):
            size += sys.getsizeof(one)  # a single letter of another script makes all of it wide
        elif isinstance(one, tuple):
            size += sum(len(name) + len(value) for name, value in one)
    return size
