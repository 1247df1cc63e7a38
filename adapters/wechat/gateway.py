"""WeChat Pay as the application sees it: each order in the version that placed it."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TypeVar

from attrs import field, frozen

from adapters.wechat.errors import Call, report
from adapters.wechat.merchant import Merchant
from adapters.wechat.v2 import V2
from adapters.wechat.v3 import V3
from adapters.wechat.watch import Watch
from application.errors import WechatRefused
from application.ports import Gateway, Meaning, Prepared, Refused, Unknown
from domain.order import Order, Placement
from domain.refund import Refund
from domain.trade import RefundReport, Trade

Answer = TypeVar("Answer")


@frozen
class WechatGateway(Gateway):
    """New orders by the merchant's version; an old one in its own, for as long as its keys are there."""

    merchant: Merchant
    v2: V2
    v3: V3
    watch: Watch = field(factory=Watch)

    def placement(self, client_ip: str) -> Placement:
        return (self.v2 if self.merchant.api_version == "v2" else self.v3).placement(client_ip)

    async def prepay(self, order: Order) -> Prepared | Refused | Unknown:
        return await self._ask(Call.PREPAY, order, lambda line: line.prepay(order))

    async def pay_params(self, order: Order, now: datetime) -> Mapping[str, str]:
        """Raise WechatRefused when the keys that placed the order are gone."""
        line = self._line(Call.PREPAY, order)
        if isinstance(line, Refused):
            raise WechatRefused(order.out_trade_no, line)
        return await line.pay_params(order, now)

    async def query(self, order: Order) -> Trade | Refused | Unknown:
        return await self._ask(Call.QUERY, order, lambda line: line.query(order))

    async def close(self, order: Order) -> Trade | Refused | Unknown:
        return await self._ask(Call.CLOSE, order, lambda line: line.close(order))

    async def refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        return await self._ask(Call.REFUND, order, lambda line: line.refund(order, refund))

    async def query_refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        return await self._ask(Call.QUERY_REFUND, order, lambda line: line.query_refund(order, refund))

    async def recover_refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        """Take an abnormal refund's money to the merchant's own bank card; V3 only (R39)."""
        return await self._ask(Call.RECOVER_REFUND, order, lambda line: line.recover_refund(order, refund))

    async def _ask(
        self, call: Call, order: Order, ask: Callable[[V2 | V3], Awaitable[Answer]]
    ) -> Answer | Refused:
        async def asked() -> Answer | Refused:
            line = self._line(call, order)
            return line if isinstance(line, Refused) else await ask(line)

        return await self.watch.over(call, order.out_trade_no, asked())

    def _line(self, call: Call, order: Order) -> V2 | V3 | Refused:
        placed = order.placement
        if placed.mch_id != self.merchant.mch_id:
            told = f"the order was placed by merchant {placed.mch_id}: WECHAT_PAY_MCH_ID names another"
            return report(call, order.out_trade_no, _misconfigured("OTHER_MERCHANT", told))
        if placed.api_version == "v2" and self.merchant.speaks_v2:
            return self.v2
        if placed.api_version == "v3" and self.merchant.speaks_v3:
            return self.v3
        told = f"the order was placed by {placed.api_version}, and the keys for that are not set"
        return report(call, order.out_trade_no, _misconfigured("KEYS_MISSING", told))


def _misconfigured(err_code: str, explanation: str) -> Refused:
    return Refused(meaning=Meaning.CONFIGURATION, err_code=err_code, explanation=explanation)
