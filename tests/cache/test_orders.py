"""Orders: which sources they concern, which of several is the newest, what a bound does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.key import SourceId
from cache.orders import MAX_ORDERS, MAX_TAG_BYTES, Act, Order, Orders, Scope

SITE = "img.example.org"


def order(seq: int, scope: Scope, value: str, act: Act = Act.PURGE, site: str = SITE) -> Order:
    return Order(act, scope, site, value, seq)


CONCERNS = [
    # scope, value, path, tags, does it
    (Scope.SOURCE, "/a.jpg", "/a.jpg", (), True),
    (Scope.SOURCE, "/a.jpg", "/a.jpg2", (), False),
    (Scope.SOURCE, "/a.jpg", "/a.jpg\x1fv=1", (), False),  # an original of its own
    (Scope.PREFIX, "/a", "/a.jpg", (), True),
    (Scope.PREFIX, "/", "/deep/down/x.png", (), True),
    (Scope.PREFIX, "/a/", "/a", (), False),
    (Scope.PREFIX, "/ä", "/äpfel.jpg", (), True),
    (Scope.TAG, "cat", "/a.jpg", ("dog", "cat"), True),
    (Scope.TAG, "cat", "/cat", ("cats",), False),
    (Scope.TAG, "cat", "/cat", (), False),
]


@pytest.mark.parametrize(("scope", "value", "path", "tags", "does"), CONCERNS)
def test_whom_an_order_concerns(
    scope: Scope, value: str, path: str, tags: tuple[str, ...], does: bool
) -> None:
    source = SourceId(SITE, path)
    one = order(7, scope, value)
    assert one.concerns(source, tags) is does
    assert not one.concerns(SourceId("other", path), tags)
    orders = Orders()
    assert orders.add(one)
    expected = 7 if does and scope is not Scope.SOURCE else 0
    assert orders.newest(source, tags) == orders.barrier(source, tags) == expected
    assert orders.softened(source, tags) == 0
    assert orders.newest(SourceId("other", path), tags) == 0


@pytest.mark.parametrize(
    ("act", "scope", "value"),
    [
        (Act.PURGE, Scope.SOURCE, ""),
        (Act.PURGE, Scope.TAG, "x" * (MAX_TAG_BYTES + 1)),
        (Act.PURGE, Scope.TAG, "ä" * (MAX_TAG_BYTES // 2 + 1)),
        (Act.TAKE_DOWN, Scope.TAG, "x"),
        (Act.LIFT, Scope.PREFIX, "/"),
    ],
)
def test_what_is_no_order(act: Act, scope: Scope, value: str) -> None:
    with pytest.raises(ValueError, match=r"bytes|of a source"):
        Order(act, scope, SITE, value)


def test_the_newest_counts_in_whatever_order_they_are_heard() -> None:
    source = SourceId(SITE, "/a/b.jpg")
    orders = Orders()
    for seq, scope, value in (
        (30, Scope.PREFIX, "/a/"),
        (10, Scope.TAG, "t"),
        (20, Scope.PREFIX, "/a/b"),
    ):
        assert orders.add(order(seq, scope, value))
    assert orders.head == 30
    assert orders.newest(source, ("t",)) == 30
    assert orders.add(order(40, Scope.TAG, "t"))
    assert orders.newest(source, ("t",)) == 40
    assert orders.newest(source) == 30
    assert not orders.add(order(20, Scope.PREFIX, "/a/b")), "heard already"


def test_soft_and_hard_are_apart() -> None:
    source = SourceId(SITE, "/a.jpg")
    orders = Orders()
    orders.add(order(5, Scope.TAG, "t", Act.SOFTEN))
    assert orders.softened(source, ("t",)) == 5
    assert orders.newest(source, ("t",)) == 0
    orders.add(order(7, Scope.SOURCE, "/a.jpg", Act.SOFTEN))
    assert orders.softened(source, ("t",)) == 7
    assert orders.softened(SourceId(SITE, "/b.jpg")) == 0


def test_what_is_taken_down_stays_so_until_it_is_lifted() -> None:
    source = SourceId(SITE, "/a.jpg")
    orders = Orders()
    orders.add(order(1, Scope.SOURCE, "/a.jpg", Act.TAKE_DOWN))
    assert orders.taken_down == {source}
    orders.forget(100)
    assert orders.taken_down == {source}, "the log may forget the order, not the fact"
    orders.add(order(101, Scope.SOURCE, "/a.jpg", Act.LIFT))
    assert not orders.taken_down


def test_at_the_bound_the_horizon_moves() -> None:
    orders = Orders()
    for seq in range(1, MAX_ORDERS + 2):
        orders.add(order(seq, Scope.TAG, f"t{seq}"))
    assert len(orders) <= MAX_ORDERS
    assert orders.horizon > 0
    untouched = SourceId(SITE, "/never-mentioned.jpg")
    assert orders.barrier(untouched) == orders.horizon, "who applied nothing since is purged"
    assert orders.newest(untouched) == 0
    assert orders.newest(untouched, (f"t{MAX_ORDERS + 1}",)) == MAX_ORDERS + 1
    assert not orders.add(order(1, Scope.TAG, "late")), "behind the horizon"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([Scope.PREFIX, Scope.TAG]),
            st.sampled_from(["/", "/a", "/a/", "/a/b", "t", "u"]),
            st.sampled_from([Act.PURGE, Act.SOFTEN]),
        ),
        max_size=30,
    ),
    st.integers(0, 31),
    st.sampled_from(["/a/b", "/a", "/b", "/a/c.jpg"]),
    st.sets(st.sampled_from(["t", "u", "/a"])),
)
def test_the_table_is_the_list_of_orders(
    given_orders: list[tuple[Scope, str, Act]], horizon: int, path: str, tags: set[str]
) -> None:
    source = SourceId(SITE, path)
    listed = [
        Order(act, scope, SITE, value, 1 + n) for n, (scope, value, act) in enumerate(given_orders)
    ]
    orders = Orders()
    for one in listed:
        orders.add(one)
    orders.forget(horizon)
    meant = [one for one in listed if one.concerns(source, tags) and one.seq > horizon]
    hard = max((one.seq for one in meant if one.act is Act.PURGE), default=0)
    soft = max((one.seq for one in meant if one.act is Act.SOFTEN), default=0)
    assert orders.newest(source, tags) == hard
    assert orders.barrier(source, tags) == max(hard, horizon)
    assert orders.softened(source, tags) == max(soft, horizon)
