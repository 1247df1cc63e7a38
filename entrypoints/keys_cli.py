"""The operator's keys: who else may call."""

import argparse
import asyncio
import secrets

from adapters.store.opening import sqlite_path
from application.access import ApiKey, Scope, digest_of, valid_name
from entrypoints import desk
from entrypoints.commands import database_of, declare, given_by
from entrypoints.container import now


def add_keys_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare them."""
    keys = declare(
        commands,
        "keys",
        "API keys of the shop's backend and of operators",
        "minitill keys create --name backend --scope pay,read",
    )
    acts = keys.add_subparsers(required=True, metavar="create|list|revoke")
    command = declare(
        acts,
        "create",
        "make a key; it is shown once",
        "minitill keys create --name backend --scope pay,read,refund",
    )
    command.add_argument(
        "--name", default="unnamed", type=_name, help="what the log and an order's history call it"
    )
    command.add_argument(
        "--scope", required=True, type=_scopes, help=f"one or more of {','.join(Scope)}; admin may everything"
    )
    command.add_argument("--quiet", action="store_true", help="print the key alone")
    command.add_argument("--database", help="default: MINITILL_DATABASE")
    command.set_defaults(run=_create)
    command = declare(acts, "list", "all keys, revoked ones too", "minitill keys list --json")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("--database", help="default: MINITILL_DATABASE")
    command.set_defaults(run=_list)
    command = declare(acts, "revoke", "a key opens nothing any more", "minitill keys revoke 1f2e3d4c")
    command.add_argument("id")
    command.add_argument("--database", help="default: MINITILL_DATABASE")
    command.set_defaults(run=_revoke)


def _name(text: str) -> str:
    try:
        valid_name(None, None, text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _scopes(text: str) -> frozenset[Scope]:
    try:
        return frozenset(Scope(part.strip()) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a scope is one of {', '.join(Scope)}") from None


def _create(wish: argparse.Namespace) -> int:
    made = ApiKey(id=secrets.token_hex(4), name=wish.name, scopes=wish.scope, created_at=now())
    key = f"mt_{secrets.token_urlsafe(32)}"
    database = database_of(given_by(wish))
    file = sqlite_path(database)
    # A key is often the first thing made; an older database is `migrate`'s to bring up to date.
    is_new = file is not None and not file.exists()
    asyncio.run(_add(database, made, digest_of(key), migrate=is_new))
    if wish.quiet:
        print(key)
    else:
        print(f"key {made.id} {made.name!r} ({_listed(made)}); it is shown only now:\n\n  {key}\n")
    return 0


async def _add(database: str, made: ApiKey, digest: str, *, migrate: bool) -> None:
    async with desk.store_at(database, migrate=migrate) as store:
        await store.keys.add(made, digest)


def _list(wish: argparse.Namespace) -> int:
    print(desk.printed(asyncio.run(_lines(database_of(given_by(wish)))), as_json=wish.json))
    return 0


async def _lines(database: str) -> desk.Table:
    async with desk.store_at(database) as store:
        keys = await store.keys.listed()
    return [
        {
            "id": key.id,
            "name": key.name,
            "scopes": _listed(key),
            "create_time": desk.beijing(key.created_at),
            "last_used_time": desk.beijing(key.last_used_at),
            "revoke_time": desk.beijing(key.revoked_at),
        }
        for key in keys
    ]


def _revoke(wish: argparse.Namespace) -> int:
    revoked = asyncio.run(_revoked(database_of(given_by(wish)), wish.id))
    print(f"key {revoked.id} {revoked.name!r} opens nothing any more (running services forget it in 5 s)")
    return 0


async def _revoked(database: str, key_id: str) -> ApiKey:
    async with desk.store_at(database) as store:
        return await store.keys.revoke(key_id, now())


def _listed(key: ApiKey) -> str:
    return ",".join(scope for scope in Scope if scope in key.scopes)
