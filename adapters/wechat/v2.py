"""WeChat Pay V2's calls: XML out, XML in, both signed with the API key."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from attrs import frozen

from adapters.wechat import v2_wire, v2_words
from adapters.wechat.client import Client, RawAnswer
from adapters.wechat.errors import Call, Passing, Unreadable, judge, report
from adapters.wechat.merchant import Merchant
from adapters.wechat.v2_wire import Fields, MalformedXml
from application.ports import Clock, Gateway, Meaning, Prepared, Refused, Unknown
from domain.order import Order, Placement
from domain.refund import REFUNDS_MAX, Refund
from domain.trade import BEIJING, RefundReport, RefundStatus, Trade, TradeState

HEADERS = {"Content-Type": "text/xml"}
REPEATABLE = frozenset({Call.PREPAY, Call.QUERY, Call.CLOSE, Call.QUERY_REFUND})  # R13

NO_CERTIFICATE = Refused(
    meaning=Meaning.CONFIGURATION,
    err_code="NO_CERTIFICATE",
    explanation="V2's refunds need apiclient_cert.pem and apiclient_key.pem in WECHAT_PAY_CERTS_DIR",
)
NOT_IN_V2 = Refused(
    meaning=Meaning.CONFIGURATION,
    err_code="NOT_IN_V2",
    explanation="V2 has no call that recovers a refund: settle it in the merchant platform",
)

PATHS = {
    Call.PREPAY: "/pay/unifiedorder",
    Call.QUERY: "/pay/orderquery",
    Call.CLOSE: "/pay/closeorder",
    Call.REFUND: "/secapi/pay/refund",
    Call.QUERY_REFUND: "/pay/refundquery",
}


@frozen
class V2(Gateway):
    """V2 for orders placed by V2. A repeat differs from its first call in nonce and signature only (R11)."""

    merchant: Merchant
    client: Client
    clock: Clock
    nonce: Callable[[], str]  # 32 letters and digits that nobody can guess

    def placement(self, client_ip: str) -> Placement:
        return Placement(
            appid=self.merchant.appid,
            mch_id=self.merchant.mch_id,
            api_version="v2",
            sign_type=self.merchant.sign_type,
            notify_url=self.merchant.notify_url,
            client_ip=client_ip,
        )

    async def prepay(self, order: Order) -> Prepared | Refused | Unknown:
        fields = {
            # Emoji in body are risky on V2's wire (v2.md section 3).
            "body": "".join(mark for mark in order.body if ord(mark) <= 0xFFFF),
            "attach": order.attach,
            "out_trade_no": order.out_trade_no,
            "total_fee": str(order.total_fee),
            "spbill_create_ip": order.placement.client_ip,
            "time_expire": order.expires_at.astimezone(BEIJING).strftime(v2_words.MOMENT),
            "notify_url": order.placement.notify_url,
            "trade_type": "JSAPI",
            "openid": order.openid,
        }
        answer = await self._ask(Call.PREPAY, order, fields)
        if isinstance(answer, Refused | Unknown):
            return answer
        try:
            return Prepared(prepay_id=v2_words.text(answer, "prepay_id"))
        except Unreadable as error:
            return self._unreadable(Call.PREPAY, order, error)

    async def pay_params(self, order: Order, now: datetime) -> Mapping[str, str]:
        params = {
            "appId": order.placement.appid,
            "timeStamp": str(int(now.timestamp())),
            "nonceStr": self.nonce(),
            "package": f"prepay_id={order.prepay_id}",
            "signType": order.placement.sign_type,
        }
        return {**params, "paySign": v2_wire.sign(params, self.merchant.v2_key, order.placement.sign_type)}

    async def query(self, order: Order) -> Trade | Refused | Unknown:
        answer = await self._ask(Call.QUERY, order, {"out_trade_no": order.out_trade_no})
        if isinstance(answer, Refused | Unknown):
            return answer
        try:
            _same(answer, "out_trade_no", order.out_trade_no)
            return v2_words.trade_of(answer)
        except Unreadable as error:
            return self._unreadable(Call.QUERY, order, error)

    async def close(self, order: Order) -> Trade | Refused | Unknown:
        answer = await self._ask(Call.CLOSE, order, {"out_trade_no": order.out_trade_no})
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
        if self.merchant.certificate is None:
            return report(Call.REFUND, order.out_trade_no, NO_CERTIFICATE)
        fields = {
            "out_trade_no": order.out_trade_no,
            "out_refund_no": refund.out_refund_no,
            "total_fee": str(order.total_fee),
            "refund_fee": str(refund.refund_fee),
            "refund_desc": refund.reason,
            "notify_url": order.placement.notify_url,
        }
        answer = await self._ask(Call.REFUND, order, fields)
        if isinstance(answer, Refused | Unknown):
            return answer
        try:
            _same(answer, "out_trade_no", order.out_trade_no)
            _same(answer, "out_refund_no", refund.out_refund_no)
            # SUCCESS means accepted, and nothing more (v2.md section 9, R38).
            accepted = {**answer, "refund_status": RefundStatus.PROCESSING.value}
            return v2_words.refund_of(accepted, order.placement.mch_id)
        except Unreadable as error:
            return self._unreadable(Call.REFUND, order, error)

    async def query_refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        answer = await self._ask(Call.QUERY_REFUND, order, {"out_refund_no": refund.out_refund_no})
        if isinstance(answer, Refused | Unknown):
            return answer
        try:
            _same(answer, "out_trade_no", order.out_trade_no)
            suffix = _suffix_of(refund.out_refund_no, answer)
            return v2_words.refund_of(answer, order.placement.mch_id, suffix)
        except Unreadable as error:
            return self._unreadable(Call.QUERY_REFUND, order, error)

    async def recover_refund(self, order: Order, refund: Refund) -> RefundReport | Refused | Unknown:
        """V2 has no such call: an abnormal refund is settled in the merchant platform (R39)."""
        return report(Call.RECOVER_REFUND, f"{order.out_trade_no} {refund.out_refund_no}", NOT_IN_V2)

    # -- inside ----------------------------------------------------------------------------

    async def _ask(self, call: Call, order: Order, fields: Fields) -> Fields | Refused | Unknown:
        """A verified success's fields; any other outcome is logged, once."""
        if call in REPEATABLE:
            answer = await self.client.repeat(lambda: self._once(call, order, fields))
        else:
            answer = await self._once(call, order, fields)
        return report(call, order.out_trade_no, answer) if isinstance(answer, Refused | Unknown) else answer

    async def _once(self, call: Call, order: Order, fields: Fields) -> Fields | Refused | Unknown:
        answer = await self.client.send(
            "POST",
            PATHS[call],
            self._signed(order, fields),
            HEADERS,
            read_seconds=self.client.refund_read_seconds if call is Call.REFUND else None,
            mutual_tls=call is Call.REFUND,
        )
        if not isinstance(answer, RawAnswer):
            return answer
        if answer.status != 200:
            kind = Passing if answer.status >= 500 else Unknown
            return kind(why=f"HTTP {answer.status} from the front end")
        try:
            return self._read(call, order, v2_wire.read(answer.body))
        except MalformedXml as error:
            return Unknown(why=f"the answer is not V2's XML: {error.reason}")

    def _signed(self, order: Order, fields: Fields) -> bytes:
        placed = order.placement
        sent = {"appid": placed.appid, "mch_id": placed.mch_id, "nonce_str": self.nonce(), **fields}
        if placed.sign_type != "MD5":
            sent["sign_type"] = placed.sign_type
        sent = {name: value for name, value in sent.items() if value}  # R19
        return v2_wire.write({**sent, "sign": v2_wire.sign(sent, self.merchant.v2_key, placed.sign_type)})

    def _read(self, call: Call, order: Order, fields: Fields) -> Fields | Refused | Unknown:
        """Both result layers (v2.md section 3). What is unsigned is a hint, never an answer (section 2)."""
        code, text = fields.get("err_code", ""), fields.get("err_code_des", "")
        if fields.get("return_code") != "SUCCESS":
            told = fields.get("return_msg") or text
            return Unknown(why="return_code FAIL, which nobody signs", err_code=code, description=told)
        if not fields.get("sign"):
            return Passing(why="the answer is unsigned", err_code=code, description=text)
        if not v2_wire.verify(fields, self.merchant.v2_key, order.placement.sign_type):
            return Unknown(why="the answer's sign is wrong (API key?)", err_code=code, description=text)
        named = (fields.get("appid"), fields.get("mch_id"))
        if named != (order.placement.appid, order.placement.mch_id):
            return Unknown(why="the answer names another appid or mch_id", err_code=code, description=text)
        return fields if fields.get("result_code") == "SUCCESS" else judge(call, code, text)

    def _unreadable(self, call: Call, order: Order, error: Unreadable) -> Unknown:
        answer = Unknown(why=f"a signed answer nobody can read: {error}")
        return report(call, order.out_trade_no, answer, logging.ERROR)


def _same(answer: Fields, name: str, ours: str) -> None:
    """Raise Unreadable when the answer is about something else than we asked."""
    if answer.get(name) != ours:
        raise Unreadable(f"it is about another {name}")


def _suffix_of(out_refund_no: str, answer: Fields) -> str:
    """Where in the list the refund stands (v2.md section 10); raise Unreadable when it does not."""
    for n in range(REFUNDS_MAX):
        if answer.get(f"out_refund_no_{n}") == out_refund_no:
            return f"_{n}"
    raise Unreadable("it is about another out_refund_no")
