"""What an operator does from the command line, on the same store and by the same use cases as the server."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from adapters.store.opening import open_store
from adapters.store.store import SqlStore
from application.outbox import LetterState
from application.refunds import NewRefund
from domain.fee import yuan
from domain.order import Order, Status
from domain.refund import Refund
from domain.trade import BEIJING
from entrypoints.container import now
from entrypoints.settings import Settings
from entrypoints.till import Till

CAUSE = "operator cli"

Table = Sequence[Mapping[str, Any]]


@asynccontextmanager
async def till_of(settings: Settings) -> AsyncIterator[Till]:
    """The till without its HTTP and its jobs."""
    till = await Till.open(settings, with_jobs=False)
    try:
        yield till
    finally:
        await till.stop()


@asynccontextmanager
async def store_at(address: str, *, migrate: bool = False) -> AsyncIterator[SqlStore]:
    """The store alone: to look, nobody needs WeChat's credentials."""
    store = await open_store(address, migrate=migrate)
    try:
        yield store
    finally:
        await store.close()


async def list_orders(database: str, openid: str | None, status: Status | None, limit: int) -> Table:
    """The newest orders, of one payer or of all."""
    async with store_at(database) as store:
        if openid is None:
            found = await store.orders.newest(limit, status)
        else:
            found = await store.orders.of_openid(openid, limit=limit, status=status)
    return [_order_line(order) for order in found]


async def show_order(database: str, out_trade_no: str) -> Table:
    """Everything that ever happened to the order. Raises OrderNotFound."""
    async with store_at(database) as store:
        await store.orders.get(out_trade_no)
        events = await store.orders.history(out_trade_no)
    return [
        {
            "version": event.version,
            "time": beijing(event.at),
            "event": event.name,
            "cause": event.cause,
            "status": event.facts.get("status"),
            "transaction_id": event.facts.get("transaction_id"),
            "out_refund_no": event.facts.get("out_refund_no"),
            "refund_fee": event.facts.get("refund_fee"),
        }
        for event in events
    ]


async def close_order(settings: Settings, out_trade_no: str) -> Table:
    """Close at WeChat first, then here. Raises OrderNotFound, OrderPaid, WechatRefused or WechatSilent."""
    async with till_of(settings) as till:
        return [_order_line(await till.container.payments().close(out_trade_no, CAUSE))]


async def refund(settings: Settings, new: NewRefund) -> Table:
    """Promise and carry a refund. Raises what the domain or WeChat refuses."""
    async with till_of(settings) as till:
        order, made = await till.container.refunds().request(new, CAUSE)
    return [_refund_line(order, made)]


async def list_letters(database: str, state: LetterState | None, limit: int) -> Table:
    """The newest letters to the shop's backend."""
    async with store_at(database) as store:
        letters = await store.outbox.letters(state, limit)
    return [
        {
            "event_id": letter.event.id,
            "event": letter.event.name,
            "state": letter.state.value,
            "tries": letter.tries,
            "due_time": beijing(letter.due_at),
        }
        for letter in letters
    ]


async def replay_letter(database: str, event_id: str) -> bool:
    """Let a letter that was delivered or set aside be delivered again; whether there is such a letter."""
    async with store_at(database) as store:
        return await store.outbox.replay(event_id, now())


def printed(table: Table, *, as_json: bool) -> str:
    """The table for a person, or one JSON array for a program."""
    if as_json:
        return json.dumps(list(table), ensure_ascii=False, indent=2)
    if not table:
        return "nothing"
    names = list(table[0])
    rows = [[("" if row[name] is None else str(row[name])) for name in names] for row in table]
    widths = [max(len(name), *(len(row[n]) for row in rows)) for n, name in enumerate(names)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in [names, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def _order_line(order: Order) -> Mapping[str, Any]:
    return {
        "out_trade_no": order.out_trade_no,
        "status": order.status.value,
        "total_fee": order.total_fee,
        "yuan": yuan(order.total_fee),
        "refunded_fee": order.refunded_fee,
        "create_time": beijing(order.created_at),
        "time_end": beijing(order.paid_at),
        "late": order.late,
        "openid": order.openid,
        "body": order.body,
    }


def _refund_line(order: Order, made: Refund) -> Mapping[str, Any]:
    return {
        "out_refund_no": made.out_refund_no,
        "out_trade_no": order.out_trade_no,
        "status": made.refund_status.value,
        "refund_fee": made.refund_fee,
        "yuan": yuan(made.refund_fee),
        "refund_id": made.refund_id or None,
        "failure": made.failure or None,
    }


def beijing(at: datetime | None) -> str | None:
    """yyyy-MM-ddTHH:mm:ss on WeChat's clock (UTC+8)."""
    return at.astimezone(BEIJING).strftime("%Y-%m-%dT%H:%M:%S") if at else None
