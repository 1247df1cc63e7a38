"""The book read without a wire: a gateway for tests that have no time for one."""

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum, auto
from typing import TypeVar

from attrs import define

from adapters.wechat.errors import Call, judge
from adapters.wechat.simulator.book import Book
from adapters.wechat.simulator.codes import Refusal
from adapters.wechat.simulator.orders import (
    Form,
    OrderRequest,
    PlatformOrder,
    PlatformRefund,
    RefundRequest,
)
from application.ports import Clock, Gateway, Meaning, Prepared, Refused, Unknown
from domain.order import Order, Placement
from domain.refund import Refund
from domain.trade import RefundReport, Trade, TradeState

Answer = TypeVar("Answer")

# What has to be the same when a number is ordered again (R11).
IDENTICAL = ("placement", "openid", "total_fee", "body", "attach", "expires_at")


class Weather(Enum):
    """What the line to WeChat is like."""

    FAIR = auto()
    DOWN = auto()  # WeChat never hears us
    DEAF = auto()  # WeChat acts, and we never hear it


@define
class BookGateway(Gateway):
    """WeChat without signatures, sockets or waiting; refusals carry the codes of the order's version."""

    book: Book
    clock: Clock
    notify_url: str = "http://127.0.0.1:5000/api/wechat/pay/notify"
    api_version: str = "v3"
    weather: Weather = Weather.FAIR

    def placement(self, client_ip: str) -> Placement:
        return Placement(
            appid=self.book.appid,
            mch_id=self.book.mch_id,
            api_version=self.api_version,
            sign_type="RSA" if self.api_version == "v3" else "MD5",
            notify_url=self.notify_url,
            client_ip=client_ip,
        )

    async def prepay(self, order: Order) -> Prepared | Refused | Unknown:
        def place() -> Prepared:
            return Prepared(prepay_id=self.book.place(_request(order), self.clock()))

        return self._ask(Call.PREPAY, order, place)

    async def pay_params(self, order: Order, now: datetime) -> Mapping[str, str]:
        """As wx.requestPayment wants them, but signed by nobody."""
        return {
            "appId": order.placement.appid,
            "timeStamp": str(int(now.timestamp())),
            "nonceStr": order.out_trade_no,
            "package": f"prepay_id={order.prepay_id}",
            "signType": order.placement.sign_type,
            "paySign": "nobody",
        }

    async def query(self, order: Order) -> Trade | Refused | Unknown:
        def look() -> Trade:
            return trade_of(self.book.order(order.out_trade_no, self.clock()))

        return self._ask(Call.QUERY, order, look)

    async def close(self, order: Order) -> Trade | Refused | Unknown:
        def close() -> Trade:
            self.book.close(order.out_trade_no, self.clock())
            return _closed(order)

        answer = self._ask(Call.CLOSE, order, close)
        closed = isinstance(answer, Refused) and answer.meaning is Meaning.ALREADY_CLOSED
        return _closed(order) if closed else answer

    async def refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        def carry() -> RefundReport:
            return report_of(self.book.refund(_refund_request(order, refund), self.clock()))

        return self._ask(Call.REFUND, order, carry)

    async def query_refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        def look() -> RefundReport:
            self.book.settle_refund(refund.out_refund_no, self.clock())
            return report_of(self.book.find_refund(refund.out_refund_no))

        return self._ask(Call.QUERY_REFUND, order, look)

    async def recover_refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        def recover() -> RefundReport:
            return report_of(self.book.retry_abnormal(refund.refund_id, refund.out_refund_no, self.clock()))

        return self._ask(Call.RECOVER_REFUND, order, recover)

    def _ask(self, call: Call, order: Order, act: Callable[[], Answer]) -> Answer | Refused | Unknown:
        """Act on the book, as far as the weather lets the call and its answer through."""
        if self.weather is Weather.DOWN:
            return Unknown(why="WeChat never heard it")
        answer: Answer | Refused | Unknown
        try:
            answer = act()
        except Refusal as refusal:
            code = refusal.known.v2 if order.placement.api_version == "v2" else refusal.known.v3
            answer = judge(call, code, refusal.text)
        return answer if self.weather is Weather.FAIR else Unknown(why="WeChat's answer was lost")


def trade_of(order: PlatformOrder) -> Trade:
    """What a query or a notification says of an order in the book."""
    return Trade(
        out_trade_no=order.out_trade_no,
        trade_state=order.trade_state,
        total_fee=order.total_fee,
        transaction_id=order.transaction_id,
        time_end=order.paid_at,
        openid=order.request.openid,
        appid=order.request.appid,
        mch_id=order.request.mch_id,
    )


def report_of(refund: PlatformRefund) -> RefundReport:
    """What a query or a notification says of a refund in the book."""
    return RefundReport(
        out_trade_no=refund.order.out_trade_no,
        out_refund_no=refund.request.out_refund_no,
        refund_status=refund.status,
        refund_id=refund.refund_id,
        refund_fee=refund.request.refund_fee,
        total_fee=refund.request.total_fee,
        success_at=refund.success_at,
        mch_id=refund.order.request.mch_id,
    )


def _closed(order: Order) -> Trade:
    return Trade(
        out_trade_no=order.out_trade_no,
        trade_state=TradeState.CLOSED,
        appid=order.placement.appid,
        mch_id=order.placement.mch_id,
    )


def _request(order: Order) -> OrderRequest:
    return OrderRequest(
        appid=order.placement.appid,
        mch_id=order.placement.mch_id,
        out_trade_no=order.out_trade_no,
        total_fee=order.total_fee,
        body=order.body,
        openid=order.openid,
        notify_url=order.placement.notify_url,
        attach=order.attach,
        expires_at=order.expires_at,
        form=Form(order.placement.api_version),
        sign_type=order.placement.sign_type,
        fingerprint=repr([getattr(order, name) for name in IDENTICAL]),
    )


def _refund_request(order: Order, refund: Refund) -> RefundRequest:
    return RefundRequest(
        out_refund_no=refund.out_refund_no,
        refund_fee=refund.refund_fee,
        total_fee=order.total_fee,
        out_trade_no=order.out_trade_no,
        reason=refund.reason,
        notify_url=order.placement.notify_url,
        form=Form(order.placement.api_version),
    )
