"""The control API under /_sim/: what tests and curious people do to WeChat's side."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from aiohttp import web
from attrs import frozen

from adapters.wechat.simulator.book import WALLET
from adapters.wechat.simulator.codes import Refusal
from adapters.wechat.simulator.faults import BadFault
from adapters.wechat.simulator.orders import PlatformOrder, PlatformRefund
from adapters.wechat.simulator.phone import Logins, request_payment
from adapters.wechat.simulator.platform import Platform
from domain.trade import RefundStatus

BANK_TYPE = re.compile(r"[A-Z_]{1,16}")
YEARS_MAX = timedelta(days=3660)
ENDS = {
    "succeed": RefundStatus.SUCCESS,
    "abnormal": RefundStatus.ABNORMAL,
    "close": RefundStatus.CLOSED,
}

Handler = Callable[[web.Request], Awaitable[web.Response]]


class BadCommand(Exception):
    """A control call that cannot be done as it was asked."""


@frozen
class Control:
    """Every call takes and gives JSON; a wrong one gets 400 with the reason."""

    platform: Platform
    logins: Logins

    def routes(self) -> list[web.RouteDef]:
        posts: dict[str, Handler] = {
            "pay": self.pay,
            "fail": self.fail,
            "faults": self.set_faults,
            "clock": self.advance,
            "rotate-keys": self.rotate_keys,
            "refunds/{out_refund_no}/{end}": self.end_refund,
            "notifications/{id}/repeat": self.repeat,
            "login": self.login,
            "settle": self.settle,
            "reset": self.reset,
        }
        gets: dict[str, Handler] = {
            "orders": self.orders,
            "refunds": self.refunds,
            "notifications": self.notifications,
            "calls": self.calls,
            "faults": self.faults,
            "clock": self.clock,
        }
        return [
            *(web.post(f"/_sim/{path}", _told(handler)) for path, handler in posts.items()),
            *(web.get(f"/_sim/{path}", _told(handler)) for path, handler in gets.items()),
        ]

    # -------------------------------------------------------------- the payer and the banks

    async def pay(self, request: web.Request) -> web.Response:
        """`{out_trade_no, bank_type?}`, or `{pay_params}` checked as wx.requestPayment checks them."""
        asked = await _json(request)
        bank_type = _text(asked, "bank_type", WALLET)
        if not BANK_TYPE.fullmatch(bank_type):
            raise BadCommand("bank_type is a code such as OTHERS or CMB_CREDIT")
        params = asked.get("pay_params")
        if isinstance(params, dict):
            order = request_payment(self.platform, params, bank_type)
        else:
            order = self.platform.pay(_text(asked, "out_trade_no"), bank_type)
        return web.json_response({"errMsg": "requestPayment:ok", **order_as_json(order)})

    async def fail(self, request: web.Request) -> web.Response:
        """`{out_trade_no, final?}`: a failed attempt leaves NOTPAY (R17); a final one shows PAYERROR."""
        asked = await _json(request)
        final = asked.get("final", False) is True
        number, now = _text(asked, "out_trade_no"), self.platform.clock.now()
        return web.json_response(order_as_json(self.platform.book.fail(number, now, final=final)))

    async def end_refund(self, request: web.Request) -> web.Response:
        """The bank decides now: succeed, abnormal or close."""
        end = ENDS.get(request.match_info["end"])
        if end is None:
            raise BadCommand(f"a refund can {', '.join(ENDS)}")
        refund = self.platform.end_refund(request.match_info["out_refund_no"], end)
        return web.json_response(refund_as_json(refund))

    async def login(self, request: web.Request) -> web.Response:
        """`{name}` gives a js_code as wx.login would."""
        try:
            name = _text(await _json(request), "name")
            return web.json_response({"js_code": self.logins.issue(name, self.platform.clock.now())})
        except ValueError as error:
            raise BadCommand(str(error)) from None

    # -------------------------------------------------------------- what is seen

    async def orders(self, request: web.Request) -> web.Response:
        wanted, now = request.query.get("out_trade_no"), self.platform.clock.now()
        numbers = [number for number in self.platform.book.orders if wanted in {None, number}]
        found = [order_as_json(self.platform.book.order(number, now)) for number in numbers]
        return web.json_response({"orders": found})

    async def refunds(self, request: web.Request) -> web.Response:
        wanted = request.query.get("out_refund_no")
        refunds = self.platform.book.refunds.values()
        found = [refund_as_json(each) for each in refunds if wanted in {None, each.out_refund_no}]
        return web.json_response({"refunds": found})

    async def notifications(self, request: web.Request) -> web.Response:
        wanted = request.query.get("out_trade_no")
        sent = self.platform.notifier.sent
        found = [each.as_json() for each in sent if wanted in {None, each.news.out_trade_no}]
        return web.json_response({"notifications": found})

    async def calls(self, _request: web.Request) -> web.Response:
        return web.json_response({"calls": [call.as_json() for call in self.platform.calls]})

    # -------------------------------------------------------------- weather, time and keys

    async def faults(self, _request: web.Request) -> web.Response:
        return web.json_response(self.platform.faults.as_json())

    async def set_faults(self, request: web.Request) -> web.Response:
        try:
            self.platform.faults.read(await _json(request))
        except BadFault as error:
            raise BadCommand(str(error)) from None
        return await self.faults(request)

    async def clock(self, _request: web.Request) -> web.Response:
        clock = self.platform.clock
        return web.json_response({"now": clock.now().isoformat(), "wire_now": clock.wire_now().isoformat()})

    async def advance(self, request: web.Request) -> web.Response:
        """`{advance_seconds}`: expiry, schedules and banks move ahead; signatures keep the real time.
        `{skew_seconds}`: WeChat's clock, on Date and signatures, is so far from the caller's (R5).
        """
        asked, clock = await _json(request), self.platform.clock
        if "skew_seconds" in asked:
            clock.disagree(_seconds(asked, "skew_seconds", -YEARS_MAX))
        if "advance_seconds" in asked or "skew_seconds" not in asked:
            ahead = _seconds(asked, "advance_seconds")
            if clock.offset + ahead > YEARS_MAX:
                raise BadCommand(f"at most {YEARS_MAX.days} days ahead in all")
            clock.advance(ahead)
        return await self.clock(request)

    async def rotate_keys(self, request: web.Request) -> web.Response:
        """`{}` or `{in_seconds}`: a new platform certificate. `{public_key_percent}`: that share of the
        notifications by public key (R52). `{public_key_mode: true}`: no certificates any more.
        """
        asked, keys, clock = await _json(request), self.platform.keys, self.platform.clock
        if unknown := set(asked) - {"in_seconds", "public_key_percent", "public_key_mode"}:
            raise BadCommand(f"unknown: {', '.join(sorted(unknown))}")
        if "public_key_percent" in asked:
            keys.public_key_percent = _percent(asked["public_key_percent"])
        if "public_key_mode" in asked:
            keys.public_key_only = asked["public_key_mode"] is True
            keys.public_key_percent = 100 if keys.public_key_only else 0
        if not asked or "in_seconds" in asked:
            ahead = _seconds(asked, "in_seconds") if asked else timedelta(0)
            now = clock.wire_now()
            await asyncio.to_thread(keys.rotate, now + ahead, now)
        return web.json_response(
            {
                "platform_serials": [signer.serial for signer in keys.certificates],
                "signing": keys.usual(clock.wire_now()).serial,
                "public_key_id": keys.public.serial,
                "public_key_mode": keys.public_key_only,
                "public_key_percent": keys.public_key_percent,
            }
        )

    async def repeat(self, request: web.Request) -> web.Response:
        """Send a notification once more, out of turn."""
        for notification in self.platform.notifier.sent:
            if notification.news.id == request.match_info["id"]:
                self.platform.notifier.again(notification)
                return web.json_response(notification.as_json())
        raise BadCommand("no such notification")

    async def settle(self, _request: web.Request) -> web.Response:
        """Answers once nothing that is due is left to do."""
        await self.platform.agenda.settle()
        return web.json_response({})

    async def reset(self, _request: web.Request) -> web.Response:
        self.platform.reset()
        self.logins.clear()
        return web.json_response({})


def order_as_json(order: PlatformOrder) -> dict[str, Any]:
    """An order as it is shown outside; moments in ISO 8601, UTC."""
    request = order.request
    return {
        "out_trade_no": order.out_trade_no,
        "version": str(request.form),
        "openid": request.openid,
        "total_fee": order.total_fee,
        "body": request.body,
        "attach": request.attach,
        "notify_url": request.notify_url,
        "trade_state": str(order.trade_state),
        "transaction_id": order.transaction_id,
        "bank_type": order.bank_type,
        "failed_attempts": order.failed_attempts,
        "prepay_ids": [prepay_id for prepay_id, _ in order.prepays],
        "created_at": order.created_at.isoformat(),
        "expires_at": order.expires_at.isoformat(),
        "paid_at": order.paid_at and order.paid_at.isoformat(),
    }


def refund_as_json(refund: PlatformRefund) -> dict[str, Any]:
    """A refund as it is shown outside; moments in ISO 8601, UTC."""
    return {
        "out_refund_no": refund.out_refund_no,
        "out_trade_no": refund.out_trade_no,
        "refund_id": refund.refund_id,
        "refund_fee": refund.refund_fee,
        "total_fee": refund.order.total_fee,
        "reason": refund.request.reason,
        "version": str(refund.request.form),
        "status": str(refund.status),
        "created_at": refund.created_at.isoformat(),
        "due_at": refund.due_at.isoformat(),
        "success_at": refund.success_at and refund.success_at.isoformat(),
    }


def _told(handler: Handler) -> Handler:
    """Refusals of a control call, as JSON."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            told = {"error": refusal.code, "message": refusal.text}
            if request.path == "/_sim/pay":
                told["errMsg"] = f"requestPayment:fail {refusal.text}"
            return web.json_response(told, status=404 if refusal.known.status == 404 else 400)
        except BadCommand as error:
            return web.json_response({"error": "BAD_COMMAND", "message": str(error)}, status=400)

    return handle


async def _json(request: web.Request) -> dict[str, Any]:
    body = await request.read()
    try:
        found = json.loads(body.decode()) if body else {}
    except (ValueError, RecursionError):
        raise BadCommand("the body is no JSON") from None
    if not isinstance(found, dict):
        raise BadCommand("the body is no JSON object")
    return found


def _text(asked: dict[str, Any], name: str, default: str | None = None) -> str:
    value = asked.get(name, default)
    if not isinstance(value, str) or not value:
        raise BadCommand(f"{name} is missing")
    return value


def _seconds(asked: dict[str, Any], name: str, least: timedelta = timedelta(0)) -> timedelta:
    value = asked.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadCommand(f"{name} is a number of seconds")
    if not least.total_seconds() <= value <= YEARS_MAX.total_seconds():
        raise BadCommand(f"{name} is from {least.total_seconds():.0f} to {YEARS_MAX.total_seconds():.0f}")
    return timedelta(seconds=value)


def _percent(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise BadCommand("public_key_percent is from 0 to 100")
    return float(value)
