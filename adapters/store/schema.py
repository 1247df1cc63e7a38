"""The numbered migrations that make and change the tables."""

import re
from collections.abc import Sequence
from importlib.resources import files

from attrs import frozen

TABLE = (
    "CREATE TABLE IF NOT EXISTS migrations"
    " (number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)"
)
APPLIED = "SELECT number FROM migrations"
APPLY = "INSERT INTO migrations (number, name, applied_at) VALUES (:number, :name, :applied_at)"
COMMENT = re.compile(r"^--.*$", re.MULTILINE)


class SchemaTooNew(Exception):
    """The database was written by a newer minitill; an older one could lose what it doesn't know."""


class SchemaTooOld(Exception):
    """The database lacks migrations that this minitill needs."""


@frozen
class Migration:
    """One numbered file; its statements are separated by semicolons and blank lines."""

    number: int
    name: str
    statements: Sequence[str]


def migrations() -> list[Migration]:
    """All migrations this minitill knows, in order."""
    found = []
    for file in sorted(files("adapters.store").joinpath("migrations").iterdir(), key=lambda f: f.name):
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name):
            text = COMMENT.sub("", file.read_text(encoding="utf-8"))
            statements = [
                part.strip().removesuffix(";") for part in re.split(r";\s*\n", text) if part.strip()
            ]
            found.append(Migration(int(match[1]), match[2], statements))
    return found


def missing(applied: Sequence[int], *, migrate: bool) -> list[Migration]:
    """What is still to be applied.

    Raises SchemaTooNew when the database knows more than we do, SchemaTooOld
    when something is missing and must not be applied.
    """
    known = migrations()
    if newer := sorted(set(applied) - {migration.number for migration in known}):
        raise SchemaTooNew(
            f"the database has migration {newer[-1]:04}, this minitill knows up to {known[-1].number:04}: "
            "start the newer minitill again, or restore a backup made before the upgrade"
        )
    wanted = [migration for migration in known if migration.number not in set(applied)]
    if wanted and not migrate:
        raise SchemaTooOld(f"the database lacks migration {wanted[0].number:04}: run minitill migrate")
    return wanted
