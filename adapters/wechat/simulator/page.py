"""The payer's page: a list of orders, and for each a cashier sheet to pay, cancel or fail."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import quote

from aiohttp import web
from attrs import frozen

from adapters.wechat.simulator.book import STATES, WALLET
from adapters.wechat.simulator.codes import Refusal
from adapters.wechat.simulator.orders import PlatformOrder, PlatformRefund
from adapters.wechat.simulator.platform import Platform
from domain.trade import BEIJING, RefundStatus, TradeState

SHOWN_MAX = 200
GREEN, RED, GREY = "#07c160", "#c0392b", "#888"
CARD = "CMB_CREDIT"
METHODS = {WALLET: "零钱", CARD: "招商银行信用卡"}
# What a sheet says at its head, by what just happened or by what is so: mark, words, colour.
RESULTS = {
    "paid": ("✓", "支付成功", GREEN),
    "refunded": ("↩", "已退款", GREY),
    "cancelled": ("!", "您已取消支付", GREY),
    "failed": ("✕", "支付失败，可重新支付", RED),
    "closed": ("!", "订单已关闭", GREY),
    "expired": ("!", "支付会话已过期，请返回商家重新发起", GREY),
}
REFUND_STATES = {
    RefundStatus.PROCESSING: "处理中",
    RefundStatus.SUCCESS: "已到账",
    RefundStatus.ABNORMAL: "异常",
    RefundStatus.CLOSED: "已关闭",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    "Cache-Control": "no-store",
}
NOTHING = '<p class="empty">还没有订单。下单后在这里支付。</p>'
NO_REFUNDS = '<p class="empty">还没有退款。</p>'
BUTTONS = """\
<form method="post" id="sheet">
<button class="pay" name="act" value="pay">支付</button>
<button name="act" value="cancel">取消</button>
<button class="fail" name="act" value="fail">支付失败</button>
</form>"""
AGAIN = '<a class="button" href="/">返回订单列表</a>'


@cache
def _template(name: str) -> Template:
    return Template(files(__package__).joinpath("templates", name).read_text(encoding="utf-8"))


@frozen
class Page:
    """HTML for people; everything an order holds is escaped."""

    platform: Platform

    def routes(self) -> list[web.RouteDef]:
        pages: list[tuple[str, str, Callable[[web.Request], Awaitable[web.Response]]]] = [
            ("GET", "/", self.index),
            ("GET", "/cashier", self.by_prepay_id),
            ("GET", "/cashier/{out_trade_no}", self.cashier),
            ("POST", "/cashier/{out_trade_no}", self.act),
        ]
        return [web.route(method, path, handler) for method, path, handler in pages]

    async def index(self, _request: web.Request) -> web.Response:
        """Newest first, with a way to pay each."""
        book, now = self.platform.book, self.platform.clock.now()
        orders = [book.order(number, now) for number in list(book.orders)[-SHOWN_MAX:]]
        refunds = list(book.refunds.values())[-SHOWN_MAX:]
        return _html(
            _template("index.html"),
            mch_id=escape(self.platform.credentials.mch_id),
            appid=escape(self.platform.credentials.appid),
            directory=escape(str(self.platform.credentials.directory)),
            now=_clock(now),
            orders=_order_table(orders[::-1]) if orders else NOTHING,
            refunds=_refund_table(refunds[::-1]) if refunds else NO_REFUNDS,
        )

    async def by_prepay_id(self, request: web.Request) -> web.Response:
        """The sheet that wx.requestPayment would open for a prepay_id."""
        prepay_id = request.query.get("prepay_id", "").removeprefix("prepay_id=")
        try:
            order = self.platform.book.prepaid(prepay_id, self.platform.clock.now())
        except Refusal:
            raise web.HTTPNotFound(text="没有这个 prepay_id") from None
        raise web.HTTPSeeOther(_address(order.out_trade_no))

    async def cashier(self, request: web.Request) -> web.Response:
        order = self._order(request)
        now = self.platform.clock.now()
        happened = request.query.get("result", "")
        if order.is_paid:
            happened = "paid" if order.trade_state is TradeState.SUCCESS else "refunded"
        elif not order.is_payable:
            happened = "closed"
        elif all(until <= now for _, until in order.prepays):
            happened = "expired"
        payable = order.is_payable and happened != "expired"
        mark, words, colour = RESULTS.get(happened, ("", "", GREEN))
        head = f'<div class="mark" aria-hidden="true">{mark}</div><p class="result" role="status">{words}</p>'
        return _html(
            _template("cashier.html"),
            colour=colour,
            result=head if words else "",
            body=escape(order.request.body),
            yuan=_yuan(order.total_fee),
            out_trade_no=escape(order.out_trade_no),
            mch_id=escape(order.request.mch_id),
            openid=escape(order.request.openid),
            state=STATES[order.trade_state],
            method=_methods(order, choose=payable),
            actions=BUTTONS if payable else AGAIN,
        )

    async def act(self, request: web.Request) -> web.Response:
        """A button was pressed; whatever comes of it shows on the sheet."""
        order = self._order(request)
        form = await request.post()
        act, method = form.get("act"), form.get("method", WALLET)
        happened = {"pay": "paid", "fail": "failed", "cancel": "cancelled"}.get(str(act))
        if happened is None or method not in METHODS:
            raise web.HTTPBadRequest(text="没有这个操作")
        try:
            if happened == "paid":
                self.platform.pay(order.out_trade_no, str(method))
            elif happened == "failed":
                self.platform.book.fail(order.out_trade_no, self.platform.clock.now())
        except Refusal:
            happened = ""  # the sheet shows the state that refused it
        raise web.HTTPSeeOther(f"{_address(order.out_trade_no)}?result={happened}")

    def _order(self, request: web.Request) -> PlatformOrder:
        try:
            return self.platform.book.order(request.match_info["out_trade_no"], self.platform.clock.now())
        except Refusal:
            raise web.HTTPNotFound(text="没有这个订单") from None


def _html(template: Template, **parts: str) -> web.Response:
    return web.Response(
        text=template.substitute(parts), content_type="text/html", charset="utf-8", headers=HEADERS
    )


def _order_table(orders: list[PlatformOrder]) -> str:
    rows = "".join(
        f'<tr><td><a class="{order.trade_state}" href="{_address(order.out_trade_no)}">'
        f"{escape(order.out_trade_no)}</a></td>"
        f'<td class="number">{_yuan(order.total_fee)}</td><td class="wide">{escape(order.request.body)}</td>'
        f'<td class="wide">{escape(order.request.openid)}</td><td>{STATES[order.trade_state]}</td>'
        f"<td>{str(order.request.form).upper()}</td><td>{_clock(order.created_at)}</td></tr>"
        for order in orders
    )
    heads = '<th>商户单号</th><th class="number">金额（元）</th><th>商品</th><th>付款人</th><th>状态</th>'
    return (
        f"<table><thead><tr>{heads}<th>版本</th><th>下单时间</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _refund_table(refunds: list[PlatformRefund]) -> str:
    rows = "".join(
        f"<tr><td>{escape(refund.out_refund_no)}</td><td>{escape(refund.out_trade_no)}</td>"
        f'<td class="number">{_yuan(refund.refund_fee)}</td>'
        f'<td class="wide">{escape(refund.request.reason)}</td><td>{REFUND_STATES[refund.status]}</td>'
        f"<td>{_clock(refund.due_at)}</td></tr>"
        for refund in refunds
    )
    heads = "<th>退款单号</th><th>商户单号</th><th class='number'>金额（元）</th><th>原因</th><th>状态</th>"
    return f"<table><thead><tr>{heads}<th>预计到账</th></tr></thead><tbody>{rows}</tbody></table>"


def _methods(order: PlatformOrder, *, choose: bool) -> str:
    if not choose:
        if not order.is_paid:
            return ""
        name = METHODS.get(order.bank_type, order.bank_type)
        return f"<div><dt>付款方式</dt><dd>{escape(name)}</dd></div>"
    options = "".join(f'<option value="{code}">{name}</option>' for code, name in METHODS.items())
    select = f'<select name="method" form="sheet" aria-label="付款方式">{options}</select>'
    return f"<div><dt>付款方式</dt><dd>{select}</dd></div>"


def _address(out_trade_no: str) -> str:
    return f"/cashier/{quote(out_trade_no, safe='')}"


def _yuan(fee: int) -> str:
    """Fen as yuan with two decimals, exactly."""
    return f"{fee // 100}.{fee % 100:02}"


def _clock(moment: datetime) -> str:
    return moment.astimezone(BEIJING).strftime("%m-%d %H:%M:%S")
