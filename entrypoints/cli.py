"""The command line: `minitill COMMAND --help` tells each command with an example."""

import argparse
import asyncio
import errno
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from adapters.store import schema
from adapters.store.opening import open_store
from adapters.wechat.simulator import Simulator, prepare
from domain.errors import PaymentError
from entrypoints.commands import database_of, declare, given_by, settings_of
from entrypoints.doctor_cli import add_doctor_command
from entrypoints.failures_cli import add_failures_commands
from entrypoints.faults import Faults
from entrypoints.keys_cli import add_keys_commands
from entrypoints.operator_cli import add_operator_commands
from entrypoints.serve import LOOPBACK, OPEN_WARNING, Sandbox, serve, serve_sandbox, work
from entrypoints.settings import OURS, WECHAT

FAILED, USAGE = 1, 2
UNDERSTOOD = "--i-understand-open-mode"


class Refusal(Exception):
    """A command that can not be done; the words are for the operator."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed, 2 wrong usage."""
    wish = parser().parse_args(arguments)
    try:
        code: int = wish.run(wish)
    except (Refusal, schema.SchemaTooNew, schema.SchemaTooOld) as refusal:
        print(f"minitill: {refusal}", file=sys.stderr)
        return FAILED
    except PaymentError as refusal:
        print(f"minitill: {refusal.code}: {refusal}", file=sys.stderr)
        return FAILED
    except Faults as faults:
        print(f"minitill can not start: {len(faults.faults)} setting(s) to mend", file=sys.stderr)
        for fault in faults.faults:
            print(f"  {fault}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"minitill: {error.strerror or error}{_hint(error)}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    return code


def parser() -> argparse.ArgumentParser:
    """Every command with its options and an example."""
    top = argparse.ArgumentParser(
        prog="minitill", description="A self-hosted till for WeChat mini-programs · 微信小程序自托管收银台"
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _serve_command(commands)
    _simulator_command(commands)
    command = declare(commands, "migrate", "bring the database's tables up to date", "minitill migrate")
    command.add_argument("--database", help="sqlite:///FILE; default: MINITILL_DATABASE")
    command.set_defaults(run=_migrate)
    command = declare(commands, "work", "run the repeating work alone, without the API", "minitill work")
    command.add_argument("--database", help="sqlite:///FILE; default: MINITILL_DATABASE")
    command.set_defaults(run=_work)
    add_operator_commands(commands)
    add_failures_commands(commands)
    add_doctor_command(commands)
    add_keys_commands(commands)
    return top


def _serve_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = declare(
        commands, "serve", "serve the API and WeChat's notifications", "minitill serve --sandbox --port 5000"
    )
    command.add_argument(
        "--sandbox", action="store_true", help="beside a WeChat Pay simulator; needs nothing"
    )
    command.add_argument("--host", help="address to listen on; default: MINITILL_HOST or 127.0.0.1")
    command.add_argument("--port", type=_port, help="port to listen on; default: MINITILL_PORT or 5000")
    command.add_argument(
        "--database", help="sqlite:///FILE; default: MINITILL_DATABASE, in the sandbox a new one"
    )
    command.add_argument("--tls-cert", help="PEM file of a certificate chain, to serve https without a proxy")
    command.add_argument("--tls-key", help="PEM file of its key")
    command.add_argument("--simulator-port", type=_port, default=5001, help="in the sandbox; default: 5001")
    command.add_argument(
        "--public-key-mode", action="store_true", help="in the sandbox: WeChat signs by public key"
    )
    command.add_argument("--no-jobs", action="store_true", help="leave the repeating work to another process")
    command.add_argument(
        UNDERSTOOD, action="store_true", dest="understood", help="serve with MINITILL_AUTH_MODE=open"
    )
    command.set_defaults(run=_serve)


def _simulator_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = declare(
        commands,
        "simulator",
        "run the WeChat Pay simulator alone, for any client",
        "minitill simulator --port 5001 --dir wechat-simulator",
    )
    command.add_argument("--host", default=LOOPBACK, help="address to listen on; default: 127.0.0.1")
    command.add_argument("--port", type=_port, default=5001, help="port to listen on; default: 5001")
    command.add_argument(
        "--dir", type=Path, required=True, help="where a merchant's credentials are written, once"
    )
    command.add_argument("--seed", type=int, default=0, help="of the account's numbers and of the faults")
    command.add_argument(
        "--public-key-mode", action="store_true", help="sign by public key, have no certificates"
    )
    command.add_argument(
        "--notify-url",
        default=f"http://{LOOPBACK}:5000/api/wechat/pay/notify",
        help="what simulator.env names as WECHAT_PAY_NOTIFY_URL",
    )
    command.set_defaults(run=_simulator)


def _serve(wish: argparse.Namespace) -> int:
    given = given_by(wish)
    if wish.sandbox:
        sandbox = Sandbox(
            host=given.get(OURS + "HOST") or LOOPBACK,
            port=int(given.get(OURS + "PORT") or 5000),
            simulator_port=wish.simulator_port,
            database=wish.database,
            public_key_mode=wish.public_key_mode,
        )
        asyncio.run(serve_sandbox(sandbox, given))
        return 0
    if not any(name.startswith(WECHAT) for name in given):
        raise Refusal(
            "no WECHAT_PAY_* setting is there; to try minitill without an account: minitill serve --sandbox"
        )
    settings = settings_of(given)
    if settings.auth_mode == "open" and not wish.understood:
        raise Refusal(
            f"MINITILL_AUTH_MODE=open: {OPEN_WARNING}. "
            f"Set MINITILL_AUTH_MODE=token, or start all the same: {UNDERSTOOD}"
        )
    asyncio.run(serve(settings, with_jobs=not wish.no_jobs))
    return 0


def _simulator(wish: argparse.Namespace) -> int:
    asyncio.run(_simulate(wish))
    return 0


async def _simulate(wish: argparse.Namespace) -> None:
    base_url = f"http://{wish.host}:{wish.port}"
    try:
        credentials = prepare(
            wish.dir,
            base_url=base_url,
            notify_url=wish.notify_url,
            seed=wish.seed,
            public_key_mode=wish.public_key_mode,
        )
    except ValueError as error:
        raise Refusal(str(error)) from error
    simulator = Simulator(credentials, seed=wish.seed)
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    await simulator.start(wish.host, wish.port)
    try:
        print(f"WeChat Pay simulator at {simulator.url} · credentials in {credentials.directory}", flush=True)
        await stopped.wait()
    finally:
        await simulator.stop()


def _work(wish: argparse.Namespace) -> int:
    asyncio.run(work(settings_of(given_by(wish))))
    return 0


def _migrate(wish: argparse.Namespace) -> int:
    asyncio.run(_migrated(database_of(given_by(wish))))
    print("the database is up to date")
    return 0


async def _migrated(database: str) -> None:
    await (await open_store(database)).close()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def _hint(error: OSError) -> str:
    return "; is another minitill running? Choose another --port" if error.errno == errno.EADDRINUSE else ""
