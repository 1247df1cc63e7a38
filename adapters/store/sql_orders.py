"""The orders in SQL: every statement and the shape of every row, said once for all engines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from zlib import crc32

from attrs import fields, frozen

from adapters.store.engine import Engine, Step, maybe_micros, maybe_moment, micros, moment
from adapters.store.sql_answers import remember
from adapters.store.sql_keys import IS_QUOTE_USED, use_quote
from application.access import Quote
from application.agenda import first_check, first_look
from application.answers import Answer
from application.ports import Orders, Position
from domain.errors import OrderNotFound, RefundNotFound, RefundNumberReused, StaleOrder
from domain.events import Event
from domain.order import Order, Placement, Status
from domain.refund import Refund
from domain.trade import RefundStatus

PLACEMENT = tuple(f.name for f in fields(Placement))
ORDER = tuple(f.name for f in fields(Order) if f.name not in {"placement", "refunds", "events"})
COLUMNS = (*ORDER, *PLACEMENT)
REFUND = (
    "out_refund_no",
    "place",
    "refund_fee",
    "reason",
    "refund_status",
    "refund_id",
    "refund_created_at",
    "success_at",
    "refund_failure",
    "made_elsewhere",
)

NEW_ORDER = (
    f"INSERT INTO orders ({', '.join(COLUMNS)}, look_at)"
    f" VALUES ({', '.join(f':{c}' for c in COLUMNS)}, :look_at) ON CONFLICT (out_trade_no) DO NOTHING"
)
# What a later step of an order can change; the rest is written once.
CHANGING = ("status", "prepay_id", "prepaid_at", "transaction_id", "paid_at", "late", "failure", "version")
NEXT_VERSION = (
    f"UPDATE orders SET {', '.join(f'{c} = :{c}' for c in CHANGING)},"
    " look_at = CASE WHEN :open = 1 THEN look_at ELSE NULL END"
    " WHERE out_trade_no = :out_trade_no AND version = :before"
)
SAVE_REFUND = (
    f"INSERT INTO refunds (out_trade_no, {', '.join(REFUND)}, check_at)"
    f" VALUES (:out_trade_no, {', '.join(f':{c}' for c in REFUND)}, :check_at)"
    " ON CONFLICT (out_refund_no) DO UPDATE SET refund_status = excluded.refund_status,"
    " refund_id = excluded.refund_id, success_at = excluded.success_at,"
    " refund_failure = excluded.refund_failure,"
    " check_at = CASE WHEN :settled = 1 THEN NULL"
    # One that was given up is off the agenda; when WeChat speaks of it after all, it is on it again.
    " ELSE COALESCE(refunds.check_at, excluded.check_at) END"
    " WHERE refunds.out_trade_no = excluded.out_trade_no"
)
NEW_EVENT = (
    "INSERT INTO events (out_trade_no, version, name, at, cause, facts, status_before, evidence)"
    " VALUES (:out_trade_no, :version, :name, :at, :cause, :facts, :status_before, :evidence)"
)
# Of one order's letters only the first that is not delivered is due; the others wait behind it.
NEW_LETTER = (
    "INSERT INTO outbox (out_trade_no, version, state, due_at, event_at)"
    " SELECT :out_trade_no, :version, CASE WHEN EXISTS (SELECT 1 FROM outbox"
    " WHERE out_trade_no = :out_trade_no AND state IN ('WAITING', 'BEHIND'))"
    " THEN 'BEHIND' ELSE 'WAITING' END, :event_at, :event_at"
)
FIND_REFUND = "SELECT out_trade_no FROM refunds WHERE out_refund_no = :out_refund_no"
REFUNDS_OF = (
    "SELECT out_refund_no, out_trade_no FROM refunds WHERE refund_status = :status"
    " ORDER BY refund_created_at DESC, out_refund_no DESC LIMIT :limit"
)
HISTORY = (
    "SELECT name, out_trade_no, version, at, cause, facts, status_before, evidence"
    " FROM events WHERE out_trade_no = :out_trade_no ORDER BY version"
)
COUNT = "UPDATE counters SET orders = orders + :change WHERE status = :status AND slot = :slot"
COUNTS = "SELECT status, CAST(SUM(orders) AS BIGINT) FROM counters GROUP BY status"
COUNTER_SLOTS = 16  # as many as migration 0005 made
NEWEST_FIRST = "created_at DESC, out_trade_no DESC"
OF_OPENID = "openid = :openid"
OF_STATUS = " AND status = :status"
AFTER = " AND (created_at, out_trade_no) < (:created_at, :out_trade_no)"


def select_orders(where: str, order_by: str = "", limit: str = "") -> str:
    """Orders with their refunds in one statement: a row for each refund, or one with no refund."""
    inner = f"SELECT {', '.join(COLUMNS)} FROM orders WHERE {where}"
    if order_by:
        inner += f" ORDER BY {order_by} LIMIT {limit}"
    names = ", ".join((*(f"o.{c}" for c in COLUMNS), *(f"r.{c}" for c in REFUND)))
    outer = ", ".join(f"o.{part}" for part in order_by.split(", ")) + ", " if order_by else ""
    return (
        f"SELECT {names} FROM ({inner}) o LEFT JOIN refunds r ON r.out_trade_no = o.out_trade_no"
        f" ORDER BY {outer}r.place"
    )


# Numbers begin with the second they were made in: their order is the orders' own.
NEWEST = select_orders("out_trade_no > ''", "out_trade_no DESC", ":limit")
NEWEST_OF_STATUS = select_orders("status = :status", "out_trade_no DESC", ":limit")
GET = select_orders("out_trade_no = :out_trade_no")


@frozen
class SqlOrders(Orders):
    """Orders in a database; letters to the shop are written with them where `listening`."""

    engine: Engine
    listening: bool = False

    async def get(self, out_trade_no: str) -> Order:
        for order in orders_of(await self.engine.read(GET, {"out_trade_no": out_trade_no})):
            return order
        raise OrderNotFound(out_trade_no)

    async def save(self, order: Order, answer: Answer | None = None, quote: Quote | None = None) -> None:
        if order.events:
            steps = save(order, listening=self.listening)
            if answer is not None:
                steps.append(remember(answer))
            if quote is not None:
                steps += use_quote(quote, order.out_trade_no, order.events[-1].at)
            await self.engine.write(steps + count(order))

    async def is_quote_used(self, quote_id: str) -> bool:
        return bool(await self.engine.read(IS_QUOTE_USED, {"id": quote_id}))

    async def find_refund(self, out_refund_no: str) -> Order:
        for (out_trade_no,) in await self.engine.read(FIND_REFUND, {"out_refund_no": out_refund_no}):
            return await self.get(out_trade_no)
        raise RefundNotFound(out_refund_no)

    async def refunds_of(self, status: RefundStatus, limit: int) -> Sequence[tuple[Order, Refund]]:
        found = []
        rows = await self.engine.read(REFUNDS_OF, {"status": status.value, "limit": limit})
        for out_refund_no, out_trade_no in rows:
            order = await self.get(out_trade_no)
            refund = order.refund(out_refund_no)
            if refund is not None and refund.refund_status is status:  # it may have moved meanwhile
                found.append((order, refund))
        return found

    async def history(self, out_trade_no: str) -> Sequence[Event]:
        return [event_of(row) for row in await self.engine.read(HISTORY, {"out_trade_no": out_trade_no})]

    async def of_openid(
        self, openid: str, *, limit: int, after: Position | None = None, status: Status | None = None
    ) -> Sequence[Order]:
        return list(orders_of(await self.engine.read(*of_openid(openid, limit, after, status))))

    async def newest(self, limit: int, status: Status | None = None) -> Sequence[Order]:
        if status is None:
            rows = await self.engine.read(NEWEST, {"limit": limit})
        else:
            rows = await self.engine.read(NEWEST_OF_STATUS, {"limit": limit, "status": status.value})
        return list(orders_of(rows))

    async def counts(self) -> Mapping[Status, int]:
        return {Status(status): orders for status, orders in await self.engine.read(COUNTS, {})}

    async def check(self) -> None:
        await self.counts()


def save(order: Order, *, listening: bool) -> list[Step]:
    """What `Orders.save` writes of the order itself."""
    # One event per version: so many events ago, this was the stored version.
    before = order.version - len(order.events)
    row = order_row(order)
    if before == 0:
        look_at = micros(first_look(order)) if order.status is Status.PENDING else None
        steps = [Step(NEW_ORDER, row | {"look_at": look_at}, StaleOrder(order.out_trade_no))]
    else:
        values = {name: row[name] for name in (*CHANGING, "out_trade_no")}
        values |= {"before": before, "open": int(order.status is Status.PENDING)}
        steps = [Step(NEXT_VERSION, values, StaleOrder(order.out_trade_no))]
    told = {event.facts.get("out_refund_no") for event in order.events}
    for place, refund in enumerate(order.refunds):
        if refund.out_refund_no in told:
            reused = RefundNumberReused(f"{refund.out_refund_no} belongs to another order")
            steps.append(Step(SAVE_REFUND, refund_row(order.out_trade_no, place, refund), reused))
    steps.extend(Step(NEW_EVENT, event_row(event)) for event in order.events)
    if listening:
        steps.extend(Step(NEW_LETTER, letter_row(event)) for event in order.events if event.is_public)
    return steps


def count(order: Order) -> list[Step]:
    """The order leaves its old status' counter for its new one's.

    Last in a write and always in the same order: whoever waits for a counter waits
    briefly, and no two for each other.
    """
    was, slot = order.events[0].status_before, crc32(order.out_trade_no.encode()) % COUNTER_SLOTS
    if was == order.status:
        return []
    changes = {order.status.value: 1} | ({} if was is None else {was: -1})
    return [
        Step(COUNT, {"status": status, "slot": slot, "change": change})
        for status, change in sorted(changes.items())
    ]


def of_openid(
    openid: str, limit: int, after: Position | None, status: Status | None
) -> tuple[str, dict[str, Any]]:
    """The statement and the values that list a payer's orders."""
    where, values = OF_OPENID, {"openid": openid, "limit": limit}
    if status is not None:
        where, values = where + OF_STATUS, values | {"status": status.value}
    if after is not None:
        where += AFTER
        values |= {"created_at": micros(after.created_at), "out_trade_no": after.out_trade_no}
    return select_orders(where, NEWEST_FIRST, ":limit"), values


def order_row(order: Order) -> dict[str, Any]:
    row = {name: getattr(order, name) for name in ORDER}
    row |= {name: getattr(order.placement, name) for name in PLACEMENT}
    return row | {
        "created_at": micros(order.created_at),
        "expires_at": micros(order.expires_at),
        "status": order.status.value,
        "prepaid_at": maybe_micros(order.prepaid_at),
        "paid_at": maybe_micros(order.paid_at),
        "late": int(order.late),
    }


def refund_row(out_trade_no: str, place: int, refund: Refund) -> dict[str, Any]:
    return {
        "out_trade_no": out_trade_no,
        "out_refund_no": refund.out_refund_no,
        "place": place,
        "refund_fee": refund.refund_fee,
        "reason": refund.reason,
        "refund_status": refund.refund_status.value,
        "refund_id": refund.refund_id,
        "refund_created_at": micros(refund.created_at),
        "success_at": maybe_micros(refund.success_at),
        "refund_failure": refund.failure,
        "made_elsewhere": int(refund.foreign),
        "check_at": None if refund.is_settled else micros(first_check(refund)),
        "settled": int(refund.is_settled),
    }


def event_row(event: Event) -> dict[str, Any]:
    return {
        "out_trade_no": event.out_trade_no,
        "version": event.version,
        "name": event.name,
        "at": micros(event.at),
        "cause": event.cause,
        "facts": json.dumps(event.facts, ensure_ascii=False, separators=(",", ":")),
        "status_before": event.status_before,
        "evidence": event.evidence,
    }


def letter_row(event: Event) -> dict[str, Any]:
    return {"out_trade_no": event.out_trade_no, "version": event.version, "event_at": micros(event.at)}


def event_of(row: Sequence[Any]) -> Event:
    name, out_trade_no, version, at, cause, facts, status_before, evidence = row
    return Event(
        name=name,
        out_trade_no=out_trade_no,
        version=version,
        at=moment(at),
        cause=cause,
        facts=json.loads(facts),
        status_before=status_before,
        evidence=evidence,
    )


def orders_of(rows: Sequence[Sequence[Any]]) -> Iterator[Order]:
    """Put rows that `select_orders` gave together into orders, in the rows' order."""
    first, refunds = None, list[Refund]()
    for row in rows:
        if first is not None and first[0] != row[0]:
            yield _order_of(first, tuple(refunds))
            refunds = []
        first = row
        if row[len(COLUMNS)] is not None:
            refunds.append(_refund_of(row[len(COLUMNS) :]))
    if first is not None:
        yield _order_of(first, tuple(refunds))


def _order_of(row: Sequence[Any], refunds: tuple[Refund, ...]) -> Order:
    stored = dict(zip(ORDER, row, strict=False))
    stored["created_at"] = moment(stored["created_at"])
    stored["expires_at"] = moment(stored["expires_at"])
    stored["status"] = Status(stored["status"])
    stored["prepaid_at"] = maybe_moment(stored["prepaid_at"])
    stored["paid_at"] = maybe_moment(stored["paid_at"])
    stored["late"] = bool(stored["late"])
    placement = Placement(**dict(zip(PLACEMENT, row[len(ORDER) : len(COLUMNS)], strict=True)))
    return Order(**stored, placement=placement, refunds=refunds)


def _refund_of(row: Sequence[Any]) -> Refund:
    number, _, fee, reason, status, refund_id, created_at, success_at, failure, elsewhere = row
    return Refund(
        out_refund_no=number,
        refund_fee=fee,
        reason=reason,
        refund_status=RefundStatus(status),
        refund_id=refund_id,
        created_at=moment(created_at),
        success_at=maybe_moment(success_at),
        failure=failure,
        foreign=bool(elsewhere),
    )
