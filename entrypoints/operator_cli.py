"""The operator's commands: orders, refund, webhooks."""

import argparse
import asyncio
import sys

from application.outbox import LetterState
from application.refunds import NewRefund
from domain.order import Status
from entrypoints import desk
from entrypoints.commands import a_page, database_of, declare, given_by, settings_of, whole_fen

FAILED = 1


def add_operator_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare them."""
    _orders(commands)
    command = declare(
        commands, "refund", "refund an order, or part of it", "minitill refund PAY… --fee 100 --reason 缺货"
    )
    command.add_argument("out_trade_no")
    command.add_argument("--fee", type=whole_fen, help="fen; default: all that is left")
    command.add_argument("--reason", default="", help="shown to the payer")
    command.add_argument("--out-refund-no", default="", help="the same number again is the same refund")
    _shared(command)
    command.set_defaults(run=_refund)
    _webhooks(commands)


def _orders(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    orders = declare(commands, "orders", "list, show or close orders", "minitill orders list --status PAID")
    acts = orders.add_subparsers(required=True, metavar="list|show|close")
    command = declare(acts, "list", "the newest orders", "minitill orders list --openid oUpF8… --json")
    command.add_argument("--openid", help="of one payer")
    command.add_argument("--status", type=Status, choices=list(Status), help="of one status")
    command.add_argument("--limit", type=a_page, default=20, help="how many; default: 20")
    _shared(command)
    command.set_defaults(run=_list_orders)
    command = declare(acts, "show", "everything that happened to an order", "minitill orders show PAY…")
    command.add_argument("out_trade_no")
    _shared(command)
    command.set_defaults(run=_show_order)
    command = declare(acts, "close", "close an order at WeChat and here", "minitill orders close PAY…")
    command.add_argument("out_trade_no")
    _shared(command)
    command.set_defaults(run=_close_order)


def _webhooks(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    webhooks = declare(
        commands, "webhooks", "letters to the shop's backend", "minitill webhooks list --state SET_ASIDE"
    )
    acts = webhooks.add_subparsers(required=True, metavar="list|replay")
    command = declare(acts, "list", "the newest letters", "minitill webhooks list --state WAITING")
    command.add_argument("--state", type=LetterState, choices=list(LetterState), help="of one state")
    command.add_argument("--limit", type=a_page, default=20, help="how many; default: 20")
    _shared(command)
    command.set_defaults(run=_list_letters)
    command = declare(acts, "replay", "deliver a letter again", "minitill webhooks replay PAY…-2")
    command.add_argument("event_id")
    command.add_argument("--database", help="default: MINITILL_DATABASE")
    command.set_defaults(run=_replay_letter)


def _shared(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("--database", help="default: MINITILL_DATABASE")


def _show(wish: argparse.Namespace, table: desk.Table) -> int:
    print(desk.printed(table, as_json=wish.json))
    return 0


def _list_orders(wish: argparse.Namespace) -> int:
    database = database_of(given_by(wish))
    return _show(wish, asyncio.run(desk.list_orders(database, wish.openid, wish.status, wish.limit)))


def _show_order(wish: argparse.Namespace) -> int:
    return _show(wish, asyncio.run(desk.show_order(database_of(given_by(wish)), wish.out_trade_no)))


def _close_order(wish: argparse.Namespace) -> int:
    return _show(wish, asyncio.run(desk.close_order(settings_of(given_by(wish)), wish.out_trade_no)))


def _refund(wish: argparse.Namespace) -> int:
    new = NewRefund(
        out_trade_no=wish.out_trade_no,
        refund_fee=wish.fee,
        reason=wish.reason,
        out_refund_no=wish.out_refund_no,
    )
    return _show(wish, asyncio.run(desk.refund(settings_of(given_by(wish)), new)))


def _list_letters(wish: argparse.Namespace) -> int:
    database = database_of(given_by(wish))
    return _show(wish, asyncio.run(desk.list_letters(database, wish.state, wish.limit)))


def _replay_letter(wish: argparse.Namespace) -> int:
    if asyncio.run(desk.replay_letter(database_of(given_by(wish)), wish.event_id)):
        print(f"{wish.event_id} will be delivered again")
        return 0
    print(f"minitill: no letter {wish.event_id} that was delivered or set aside", file=sys.stderr)
    return FAILED
