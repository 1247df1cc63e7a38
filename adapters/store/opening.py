"""A store by its address."""

from pathlib import Path

from adapters.store.sqlite import SqliteStore
from adapters.store.store import SqlStore

SQLITE = "sqlite:///"


def sqlite_path(address: str) -> Path | None:
    """The file behind a sqlite:/// address: relative after three slashes, absolute after four."""
    return Path(address.removeprefix(SQLITE)) if address.startswith(SQLITE) else None


async def open_store(address: str, *, migrate: bool = True, listening: bool = False) -> SqlStore:
    """Open the database at the address, bring its tables up to date if asked, else raise SchemaTooOld.

    `listening` says that there is a shop to write letters to.

    Raises SchemaTooNew for a database that a newer minitill has written,
    StoreUnavailable when it can't be opened.
    """
    path = sqlite_path(address)
    if path is None:
        raise ValueError("no address of a database")
    return await SqliteStore.open(path, migrate=migrate, listening=listening)
