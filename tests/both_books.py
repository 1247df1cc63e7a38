"""Our book held against WeChat's: what may never be true, and what has to be true in the end.

`side` is WeChat's: its book, and what the merchant has acknowledged. `shop` is who hears letters.
"""

from collections import Counter, defaultdict

from adapters.store.sql_orders import event_of, orders_of, select_orders
from application.outbox import LetterState
from domain.order import TRANSITIONS, Status
from domain.refund import REFUNDS_MAX
from domain.trade import RefundStatus

EVENTS = (
    "SELECT name, out_trade_no, version, at, cause, facts, status_before, evidence"
    " FROM events ORDER BY out_trade_no, version"
)
EVERY_ORDER = select_orders("1 = 1", "out_trade_no", "-1")


async def snapshot(store):
    """All orders by number, and all events by the number of their order."""
    if hasattr(store, "rows"):
        orders, told = list(store.rows.values()), store.events
    else:
        orders = list(orders_of(await store.engine.read(EVERY_ORDER, {})))
        told = map(event_of, await store.engine.read(EVENTS, {}))
    events = defaultdict(list)
    for event in told:
        events[event.out_trade_no].append(event)
    return {order.out_trade_no: order for order in orders}, events


async def check_safety(store, side, shop, statuses):
    """What holds in any weather; `statuses` are those of the last time. Returns the present ones."""
    orders, events = await snapshot(store)
    for number, order in orders.items():
        check_order(order, side.book)
        check_way(number, statuses.get(number, order.status), order.status)
        versions = [event.version for event in events[number]]
        assert versions == list(range(1, order.version + 1)), f"{number}: {versions}"
    await check_letters(store, shop, events)
    for refund in side.book.refunds.values():
        known = orders[refund.out_trade_no].refund(refund.out_refund_no)
        assert known, f"WeChat has {refund.out_refund_no}, which we never wrote down"
        assert known.refund_fee == refund.refund_fee, refund
    counted = Counter(order.status for order in orders.values())
    assert await store.orders.counts() == {status: counted[status] for status in Status}
    for number, out_refund_no, abnormal in side.heard():
        check_heard(orders[number], out_refund_no, abnormal=abnormal)
    return {number: order.status for number, order in orders.items()}


def check_order(order, book):
    """No money that WeChat does not have; no more back than was paid (R35, R36)."""
    number, theirs = order.out_trade_no, book.orders.get(order.out_trade_no)
    if order.is_paid:
        assert theirs, f"{number} is {order.status}, and WeChat does not know it"
        assert theirs.is_paid, f"{number} is {order.status}, at WeChat {theirs.trade_state}"
        assert (order.transaction_id, order.total_fee) == (theirs.transaction_id, theirs.total_fee)
    assert sum(r.refund_fee for r in order.refunds if r.holds_money) <= order.total_fee, number
    assert len(order.refunds) <= REFUNDS_MAX
    at_wechat = book.refunds_of(theirs) if theirs else []
    assert sum(r.refund_fee for r in at_wechat if r.holds_money) <= order.total_fee, number


def check_way(number, before, status):
    """An order only climbs."""
    reachable, fresh = {before}, {before}
    while fresh:
        fresh = {further for here in fresh for further in TRANSITIONS[here]} - reachable
        reachable |= fresh
    assert status in reachable, f"{number} went from {before} to {status}"


async def check_letters(store, shop, events):
    """The shop heard each order from its start, in order and without a gap."""
    heard = defaultdict(list)
    for number, version in shop.heard:
        if version not in heard[number]:
            heard[number].append(version)
    aside = {letter.event.out_trade_no for letter in await store.outbox.letters(LetterState.SET_ASIDE, 9)}
    for number, versions in heard.items():
        public = [event.version for event in events[number] if event.is_public]
        assert number in aside or versions == public[: len(versions)], f"{number}: {versions} of {public}"


def check_heard(order, out_refund_no, *, abnormal):
    """What we said SUCCESS to is written down."""
    refund = order.refund(out_refund_no)
    if refund is None:
        assert order.is_paid, order
    else:
        assert refund.is_settled or (abnormal and refund.refund_status is RefundStatus.ABNORMAL), refund


async def check_agreement(store, side, shop):
    """Both books, to the fen, once everything has had its time (R30, R45)."""
    orders, events = await snapshot(store)
    for number, theirs in side.book.orders.items():
        if theirs.is_paid:
            assert number in orders, f"WeChat has money for {number}, which we lost"
            assert orders[number].is_paid, f"{number} is paid at WeChat, {orders[number].status} here"
    for order in orders.values():
        assert order.status is not Status.PENDING, f"{order.out_trade_no} is still PENDING"
        back = order.refunded_fee == order.total_fee
        assert not order.is_paid or (order.status is Status.REFUNDED) == back, order
        for refund in order.refunds:
            theirs = side.book.refunds.get(refund.out_refund_no)
            known = theirs.status if theirs else RefundStatus.CLOSED  # refused: WeChat never had it
            assert refund.refund_status is known, f"{refund}, at WeChat {known}"
    assert await store.outbox.oldest_waiting() is None
    heard = set(shop.heard)
    for told in events.values():
        for event in told:
            assert not event.is_public or (event.out_trade_no, event.version) in heard, event
