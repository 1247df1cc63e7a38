"""The courier: tells the shop's backend what happened, in order, until it has heard."""

import asyncio
import logging
from datetime import timedelta
from zlib import crc32

from attrs import frozen

from application.outbox import WAITS, Backend, Letter, LetterState, Outbox
from application.ports import Clock

log = logging.getLogger(__name__)

ROUND_MAX = 64  # letters in flight at once, each of another order
LETTERS_MAX = 1000  # in one round
PAUSE_SECONDS = 1  # while slow ones are in flight, new letters are looked for this often


@frozen(kw_only=True)
class Courier:
    """Delivers letters; one slow or deaf order never holds back another."""

    outbox: Outbox
    backend: Backend
    clock: Clock

    async def deliver(self) -> int:
        """One round; return how many letters were carried, heard or not.

        A letter that is done makes room for the next at once, so that a shop that
        is slow about one order delays no other. When one can't be written down,
        the rest of the round still ends in order; then that error is raised.
        """
        carried, flying = 0, set[asyncio.Task[None]]()
        try:
            while carried < LETTERS_MAX:
                room = ROUND_MAX - len(flying)
                letters = await self.outbox.due(self.clock(), room) if room else ()
                flying |= {asyncio.create_task(self._carry(letter)) for letter in letters}
                carried += len(letters)
                if not flying:
                    break
                done, flying = await asyncio.wait(
                    flying, timeout=PAUSE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
        except asyncio.CancelledError:
            for task in flying:
                task.cancel()
            raise
        finally:
            if flying:
                await asyncio.wait(flying)
        return carried

    async def _carry(self, letter: Letter) -> None:
        delivery = await self.backend.hear(letter.event, self.clock())
        now = self.clock()
        if delivery.heard:
            await self.outbox.settle(letter, delivery, LetterState.DELIVERED, now)
        elif letter.tries >= len(WAITS):
            log.error(
                "%s set aside: the shop's backend did not hear it in %d tries",
                letter.event.id,
                letter.tries + 1,
            )
            await self.outbox.settle(letter, delivery, LetterState.SET_ASIDE, now)
        else:
            await self.outbox.settle(letter, delivery, LetterState.WAITING, now + wait_of(letter))


def wait_of(letter: Letter) -> timedelta:
    """How long until the next try: growing, and up to a quarter longer by the event's id."""
    wait = WAITS[letter.tries]
    return wait + wait * (crc32(f"{letter.event.id} {letter.tries}".encode()) % 1000) / 4000
