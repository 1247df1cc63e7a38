"""What happens at WeChat: each act with its consequences, in the book and for the merchant."""

from collections import deque
from datetime import timedelta
from typing import Any

from attrs import Factory, asdict, define, field, frozen

from adapters.wechat.simulator.book import WALLET, Book
from adapters.wechat.simulator.clock import Agenda, SimClock
from adapters.wechat.simulator.credentials import Credentials
from adapters.wechat.simulator.faults import Faults
from adapters.wechat.simulator.keys import PlatformKeys
from adapters.wechat.simulator.letters import news_of_payment, news_of_refund
from adapters.wechat.simulator.notifier import Notifier
from adapters.wechat.simulator.orders import PlatformOrder, PlatformRefund, RefundRequest
from domain.trade import RefundStatus

CALLS_MAX = 10_000


@frozen(kw_only=True)
class Call:
    """One request of the merchant's, as an operator of WeChat's would find it in a log."""

    operation: str
    version: str
    path: str
    status: int  # 0 when no answer went out
    fault: str
    client_certificate: str  # "none", "merchant", or "not asked" over plain HTTP

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@define(eq=False)
class Platform:
    """WeChat as a whole: the book, the clock, the keys, and who is told what."""

    credentials: Credentials
    book: Book
    clock: SimClock
    agenda: Agenda
    faults: Faults
    keys: PlatformKeys
    notifier: Notifier
    calls: deque[Call] = field(default=Factory(lambda: deque(maxlen=CALLS_MAX)), repr=False)

    def pay(self, out_trade_no: str, bank_type: str = WALLET) -> PlatformOrder:
        """The payer pays; the merchant is told."""
        now = self.clock.now()
        order = self.book.pay(out_trade_no, now, bank_type)
        self.notifier.tell(news_of_payment(self.notifier.new_id(), order, now))
        return order

    def refund(self, request: RefundRequest) -> PlatformRefund:
        """Take a refund and see to its end."""
        if request.out_refund_no in self.book.refunds:
            return self.book.refund(request, self.clock.now())
        fault = self.faults.refund()
        refund = self.book.refund(
            request,
            self.clock.now(),
            outcome={"abnormal": RefundStatus.ABNORMAL, "closed": RefundStatus.CLOSED}.get(
                fault.kind, RefundStatus.SUCCESS
            ),
            delay=timedelta(seconds=fault.seconds) if fault.kind == "delay" else None,
        )
        self._await_end(refund)
        return refund

    def retry_abnormal(self, refund_id: str, out_refund_no: str) -> PlatformRefund:
        refund = self.book.retry_abnormal(refund_id, out_refund_no, self.clock.now())
        self._await_end(refund)
        return refund

    def end_refund(self, out_refund_no: str, status: RefundStatus) -> PlatformRefund:
        """The bank decides now; the merchant is told."""
        refund = self.book.end_refund(out_refund_no, status, self.clock.now())
        self._tell(refund)
        return refund

    def reset(self) -> None:
        """Forget orders, refunds, faults, notifications and calls; put the calendar back."""
        self.agenda.clear()
        self.notifier.clear()
        self.book.clear()
        self.faults.clear()
        self.calls.clear()
        self.clock.reset()

    def _await_end(self, refund: PlatformRefund) -> None:
        async def end() -> None:
            if ended := self.book.settle_refund(refund.out_refund_no, self.clock.now()):
                self._tell(ended)

        self.agenda.at(refund.due_at, end)

    def _tell(self, refund: PlatformRefund) -> None:
        url = refund.request.notify_url or self.credentials.notify_url
        self.notifier.tell(news_of_refund(self.notifier.new_id(), refund, url, self.clock.now()))
