"""The operator's commands about what went wrong: failures list, failures show."""

import argparse
import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from application.failures import Failure
from domain.trade import BEIJING
from entrypoints import desk
from entrypoints.commands import a_page, database_of, declare, given_by


def add_failures_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare them."""
    failures = declare(
        commands,
        "failures",
        "refused notifications and failed calls, explained",
        "minitill failures list --limit 5",
    )
    acts = failures.add_subparsers(required=True, metavar="list|show")
    command = declare(acts, "list", "what went wrong last, counted", "minitill failures list --json")
    command.add_argument("--limit", type=a_page, default=20, help="how many; default: 20")
    _shared(command)
    command.set_defaults(run=_list)
    command = declare(
        acts, "show", "one failure with its evidence", "minitill failures show 9f86d081884c7d65"
    )
    command.add_argument("failure_id")
    _shared(command)
    command.set_defaults(run=_show)


def _shared(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("--database", help="default: MINITILL_DATABASE")


def _list(wish: argparse.Namespace) -> int:
    table = asyncio.run(list_failures(database_of(given_by(wish)), wish.limit))
    print(desk.printed(table, as_json=wish.json))
    return 0


def _show(wish: argparse.Namespace) -> int:
    told = asyncio.run(show_failure(database_of(given_by(wish)), wish.failure_id))
    print(json.dumps(told, ensure_ascii=False, indent=2) if wish.json else explained(told))
    return 0


async def list_failures(database: str, limit: int) -> desk.Table:
    """The newest failures, a line each."""
    async with desk.store_at(database) as store:
        found = await store.failures.newest(limit)
    return [_line(failure) for failure in found]


async def show_failure(database: str, failure_id: str) -> Mapping[str, Any]:
    """One failure, evidence and all. Raises FailureNotFound."""
    async with desk.store_at(database) as store:
        failure = await store.failures.find(failure_id)
    return {
        **_line(failure),
        "detail": failure.detail,
        "explanation": failure.explanation,
        "request_id": failure.request_id,
        "headers": dict(failure.headers),
        "evidence": failure.evidence,
    }


def explained(told: Mapping[str, Any]) -> str:
    """The failure for a person, a fact a line; what came from outside cannot begin a line of its own."""
    facts = [(name, value) for name, value in told.items() if name != "headers" and value not in ("", None)]
    facts[-1:-1] = [(f"header {name}", value) for name, value in told["headers"].items()]
    width = max(len(name) for name, _ in facts)
    return "\n".join(f"{_safe(name):<{width}}  {_safe(str(value))}" for name, value in facts)


def _line(failure: Failure) -> Mapping[str, Any]:
    return {
        "failure_id": failure.id,
        "time": _beijing(failure.at),
        "count": failure.count,
        "first_time": _beijing(failure.first_at),
        "kind": failure.kind,
        "code": failure.code,
        "alarm": failure.is_alarm,
        "out_trade_no": failure.out_trade_no,
        "serial": _safe(failure.serial),
    }


def _beijing(at: datetime) -> str:
    return at.astimezone(BEIJING).strftime("%Y-%m-%dT%H:%M:%S")


def _safe(text: str) -> str:
    """No control characters: a terminal would obey them."""
    return "".join(mark if mark.isprintable() else " " for mark in text)
