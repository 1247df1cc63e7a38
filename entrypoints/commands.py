"""What the commands share: how one is declared, and where its settings come from."""

import argparse
import sys
from pathlib import Path

from entrypoints import logs
from entrypoints.settings import (
    OURS,
    Settings,
    load,
    load_one,
    unknown,
    variables,
    warnings_of,
)
from entrypoints.settings_checks import used_by_others

DOTENV = Path(".env")


def declare(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, purpose: str, example: str
) -> argparse.ArgumentParser:
    """A command with its purpose and an example for its --help."""
    return commands.add_parser(name, help=purpose, description=purpose, epilog=f"example: {example}")


def given_by(wish: argparse.Namespace) -> dict[str, str]:
    """The environment over .env, and the command line over both."""
    given = variables(DOTENV)
    for name in ("host", "port", "database", "tls_cert", "tls_key"):
        value = getattr(wish, name, None)
        if value is not None:
            given[OURS + name.upper()] = str(value)
    return given


def settings_of(given: dict[str, str]) -> Settings:
    """The settings, with logging set up by them. Raises Faults."""
    settings = load(given)
    logs.set_up(settings.log_level, settings.log_format, logs.secrets_of(settings))
    for fault in (*unknown(given), *used_by_others(".env", DOTENV), *warnings_of(settings)):
        print(f"minitill: warning: {fault}", file=sys.stderr)
    return settings


def database_of(given: dict[str, str]) -> str:
    """The address of the database that the settings name. Raises Faults."""
    return str(load_one(OURS + "DATABASE", given))


def whole_fen(text: str) -> int:
    """An amount in fen as a command line gives it."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError("an amount is a whole number of fen, at least 1")
    return int(text)


def a_page(text: str) -> int:
    """How many lines of a list: 1 to 1000."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1000):
        raise argparse.ArgumentTypeError("a limit is a number from 1 to 1000")
    return int(text)
