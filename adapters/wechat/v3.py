"""WeChat Pay V3's calls: JSON out, signed with RSA; JSON in, verified before anyone parses it."""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from attrs import frozen

from adapters.wechat import v3_wire, v3_words
from adapters.wechat.certificates import Certificates
from adapters.wechat.client import Client, RawAnswer
from adapters.wechat.errors import Call, Unreadable, report
from adapters.wechat.merchant import Merchant
from adapters.wechat.v3_wire import Rejected
from adapters.wechat.v3_words import Object
from application.ports import Clock, Gateway, Meaning, Prepared, Refused, Unknown
from domain.order import Order, Placement
from domain.refund import Refund
from domain.trade import BEIJING, RefundReport, Trade, TradeState

REPEATABLE = frozenset({Call.PREPAY, Call.QUERY, Call.CLOSE, Call.QUERY_REFUND})  # R13

TRANSACTIONS = "/v3/pay/transactions"
REFUNDS = "/v3/refund/domestic/refunds"

NO_REFUND_ID = Refused(
    meaning=Meaning.NOT_NOW,
    err_code="NO_REFUND_ID",
    explanation="WeChat wants its own refund_id here: query the refund first",
)


@frozen
class V3(Gateway):
    """V3 for orders placed by V3. A repeat differs from its first call in nonce and signature only (R11)."""

    merchant: Merchant
    client: Client
    certificates: Certificates
    clock: Clock
    nonce: Callable[[], str]  # 32 letters and digits that nobody can guess

    def placement(self, client_ip: str) -> Placement:
        return Placement(
            appid=self.merchant.appid,
            mch_id=self.merchant.mch_id,
            api_version="v3",
            sign_type="RSA",
            notify_url=self.merchant.notify_url,
            client_ip=client_ip,
        )

    async def prepay(self, order: Order) -> Prepared | Refused | Unknown:
        placed = order.placement
        body = {
            "appid": placed.appid,
            "mchid": placed.mch_id,
            "description": order.body,
            "out_trade_no": order.out_trade_no,
            # The offset makes it right whatever the server's own time zone (R18).
            "time_expire": order.expires_at.astimezone(BEIJING).isoformat(timespec="seconds"),
            "attach": order.attach,
            "notify_url": placed.notify_url,
            "amount": {"total": order.total_fee, "currency": "CNY"},
            "payer": {"openid": order.openid},
            "scene_info": {"payer_client_ip": placed.client_ip} if placed.client_ip else None,
        }
        answer = await self._ask(Call.PREPAY, order, "POST", f"{TRANSACTIONS}/jsapi", body)
        if isinstance(answer, Refused | Unknown):
            return answer
        try:
            return Prepared(prepay_id=v3_words.text(answer, "prepay_id"))
        except Unreadable as error:
            return _unreadable(Call.PREPAY, order, error)

    async def pay_params(self, order: Order, now: datetime) -> Mapping[str, str]:
        stamp, nonce, package = str(int(now.timestamp())), self.nonce(), f"prepay_id={order.prepay_id}"
        message = v3_wire.pay_message(order.placement.appid, stamp, nonce, package)
        return {
            "appId": order.placement.appid,
            "timeStamp": stamp,
            "nonceStr": nonce,
            "package": package,
            "signType": "RSA",
            "paySign": v3_wire.sign(self.merchant.signing_key, message),
        }

    async def query(self, order: Order) -> Trade | Refused | Unknown:
        target = f"{_transaction(order)}?mchid={order.placement.mch_id}"
        answer = await self._ask(Call.QUERY, order, "GET", target)
        if isinstance(answer, Refused | Unknown):
            return answer
        try:
            _same(answer, "out_trade_no", order.out_trade_no)
            return v3_words.trade_of(answer)
        except Unreadable as error:
            return _unreadable(Call.QUERY, order, error)

    async def close(self, order: Order) -> Trade | Refused | Unknown:
        body = {"mchid": order.placement.mch_id}
        answer = await self._ask(Call.CLOSE, order, "POST", f"{_transaction(order)}/close", body)
        closed = isinstance(answer, Refused) and answer.meaning is Meaning.ALREADY_CLOSED
        if isinstance(answer, Refused | Unknown) and not closed:
            return answer
        return Trade(
            out_trade_no=order.out_trade_no,
            trade_state=TradeState.CLOSED,
            appid=order.placement.appid,
            mch_id=order.placement.mch_id,
        )

    async def refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        body = {
            "out_trade_no": order.out_trade_no,
            "out_refund_no": refund.out_refund_no,
            "reason": refund.reason,
            "notify_url": order.placement.notify_url,
            "amount": {"refund": refund.refund_fee, "total": order.total_fee, "currency": "CNY"},
        }
        return await self._ask_refund(Call.REFUND, order, refund, "POST", REFUNDS, body)

    async def query_refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        target = f"{REFUNDS}/{quote(refund.out_refund_no, safe='')}"
        return await self._ask_refund(Call.QUERY_REFUND, order, refund, "GET", target)

    async def recover_refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        """Take an abnormal refund's money to the merchant's own bank card (v3.md section 8, R39)."""
        if not refund.refund_id:
            return report(Call.RECOVER_REFUND, order.out_trade_no, NO_REFUND_ID)
        target = f"{REFUNDS}/{quote(refund.refund_id, safe='')}/apply-abnormal-refund"
        body = {"out_refund_no": refund.out_refund_no, "type": "MERCHANT_BANK_CARD"}
        return await self._ask_refund(Call.RECOVER_REFUND, order, refund, "POST", target, body)

    # -- inside ----------------------------------------------------------------------------

    async def _ask_refund(  # noqa: PLR0913, PLR0917 - as _ask
        self,
        call: Call,
        order: Order,
        refund: Refund,
        method: str,
        target: str,
        body: Mapping[str, Any] | None = None,
    ) -> RefundReport | Refused | Unknown:
        answer = await self._ask(call, order, method, target, body)
        if isinstance(answer, Refused | Unknown):
            return answer
        try:
            _same(answer, "out_trade_no", order.out_trade_no)
            _same(answer, "out_refund_no", refund.out_refund_no)
            return v3_words.refund_of(answer)
        except Unreadable as error:
            return _unreadable(call, order, error)

    async def _ask(
        self, call: Call, order: Order, method: str, target: str, body: Mapping[str, Any] | None = None
    ) -> Object | Refused | Unknown:
        """A verified success's object; any other outcome is logged, once."""
        sent = _json(body) if body else b""
        if call in REPEATABLE:
            answer = await self.client.repeat(lambda: self._once(call, method, target, sent))
        else:
            answer = await self._once(call, method, target, sent)
        return report(call, order.out_trade_no, answer) if isinstance(answer, Refused | Unknown) else answer

    async def _once(self, call: Call, method: str, target: str, sent: bytes) -> Object | Refused | Unknown:
        answer = await self.client.send(
            method,
            target,
            sent,
            self.certificates.request_headers(method, target, sent),
            read_seconds=self.client.refund_read_seconds if call is Call.REFUND else None,
        )
        if not isinstance(answer, RawAnswer):
            return answer
        if answer.status not in (200, 204):
            return v3_words.refusal_of(call, answer.status, answer.body, answer.request_id)
        try:
            await self.certificates.check(answer.headers, answer.body)
            return v3_words.parse(answer.body) if answer.status == 200 else {}
        except Rejected as rejected:
            why = f"the answer is not verified: {rejected.reason}"
        except Unreadable as error:
            why = f"the answer is {error}"
        return Unknown(why=why, request_id=answer.request_id)


def _json(body: Mapping[str, Any]) -> bytes:
    """The bytes that are signed and sent; what is empty is left out (R19)."""
    given = {name: value for name, value in body.items() if value not in ("", None)}
    return json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()


def _transaction(order: Order) -> str:
    return f"{TRANSACTIONS}/out-trade-no/{quote(order.out_trade_no, safe='')}"


def _same(answer: Object, name: str, ours: str) -> None:
    """Raise Unreadable when the answer is about something else than we asked."""
    if answer.get(name) != ours:
        raise Unreadable(f"it is about another {name}")


def _unreadable(call: Call, order: Order, error: Unreadable) -> Unknown:
    answer = Unknown(why=f"a signed answer nobody can read: {error}")
    return report(call, order.out_trade_no, answer, logging.ERROR)
