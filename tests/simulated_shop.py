"""Our side of a story: one process of the service over any store, and the shop's backend."""

import asyncio
import json
from datetime import datetime
from random import Random

from attrs import Factory, define, evolve

from application.agenda import DAY
from application.answers import Answer, Keyed
from application.courier import Courier
from application.errors import WechatRefused
from application.janitor import Janitor
from application.outbox import Backend, Delivery
from application.payments import Payments
from application.refunds import Refunds
from domain.trade import RefundReport
from entrypoints.numbers import Numbers
from tests.crashing import Fuse, Fused


@define(eq=False)
class Shop(Backend):
    """The shop's backend: `naps` is how many letters it misses, `mumbles` how many answers get lost."""

    heard: list = Factory(list)
    naps: int = 0
    mumbles: int = 0

    async def hear(self, event, now):
        await asyncio.sleep(0)
        if self.naps:
            self.naps -= 1
            return Delivery(event_id=event.id, at=now, heard=False, error="no connection")
        self.heard.append((event.out_trade_no, event.version))
        if self.mumbles:
            self.mumbles -= 1
            return Delivery(event_id=event.id, at=now, heard=False, error="no answer")
        return Delivery(event_id=event.id, at=now, heard=True, status=200)

    async def close(self):
        """Nothing is open."""


@define
class Service:
    """One process of ours: the use cases over the store, each port behind a fuse."""

    payments: Payments
    refunds: Refunds
    janitor: Janitor
    courier: Courier
    answers: object

    @classmethod
    def over(cls, store, gateway, shop, clock, *, fuse=None, chance=None, **settings):
        """As the container puts it together."""
        fuse, draw = fuse or Fuse(), (chance or Random(0)).randrange
        orders, answers, agenda, outbox = (
            Fused(port, fuse) for port in (store.orders, store.answers, store.agenda, store.outbox)
        )
        ports = {"orders": orders, "answers": answers, "gateway": Fused(gateway, fuse), "clock": clock}
        payments = Payments(**ports, mint=Numbers("PAY", clock, draw), **settings)
        refunds = Refunds(**ports, agenda=agenda, payments=payments, mint=Numbers("REF", clock, draw))
        janitor = Janitor(agenda=agenda, payments=payments, clock=clock)
        courier = Courier(outbox=outbox, backend=Fused(shop, fuse), clock=clock)
        return cls(payments, refunds, janitor, courier, answers)

    async def hear(self, word, *, signed):
        """WeChat's notification, as the handler passes it on."""
        if isinstance(word, RefundReport):
            await self.refunds.hear(word, "notify", signed=signed)
        else:
            await self.payments.record(word, "notify")


def written(outcome):
    """How the outcome of a keyed call reads for its caller."""
    if isinstance(outcome, WechatRefused):
        return 502, str(outcome).encode()
    if isinstance(outcome, tuple):
        return 200, json.dumps({"out_refund_no": outcome[1].out_refund_no}).encode()
    number = outcome.order.out_trade_no
    return 200, json.dumps({"out_trade_no": number, "pay_params": dict(outcome.pay_params)}).encode()


def keyed(key, request_hash="h"):
    """A request with that Idempotency-Key."""
    return Keyed(caller="shop", key=key, request_hash=request_hash, write=written)


@define(eq=False)
class Asked:
    """What was asked under an Idempotency-Key, and the first answer to it."""

    key: str
    new: object
    version: tuple
    answer: Answer | None = None
    at: datetime | None = None

    def check(self, answer, now):
        """The same key gets the same answer for a day and more (R10)."""
        found = evolve(answer, at=now)
        if self.answer is None or now >= self.at + DAY:
            self.answer, self.at = found, answer.at
        assert found == evolve(self.answer, at=now), f"{self.key} was answered {self.answer}, now {found}"
