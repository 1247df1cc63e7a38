"""A till behind real HTTP, with WeChat's side played by a list of answers."""

import json
from datetime import UTC, datetime, timedelta

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from attrs import Factory, define, field

from adapters.http.api import PaymentApi
from adapters.http.app import SERVER_OPTIONS, application
from adapters.http.life_api import LetterApi, OrderLifeApi, RefundApi
from adapters.http.quotes import Quotes
from adapters.http.routes import Route, open_door
from adapters.http.trace import GIVEN_REQUEST_ID
from adapters.store.memory import MemoryStore
from application.payments import Payments
from application.ports import Gateway, Prepared, Unknown
from application.refunds import Refunds
from domain.order import Placement
from domain.trade import RefundReport, RefundStatus, Trade, TradeState

CREATE = "/api/wechat/pay/create"
QUERY = "/api/wechat/pay/query/"
ORDERS = "/api/wechat/pay/orders/"
STATS = "/api/wechat/pay/stats"
PAY = "/api/wechat/pay/pay/"
CLOSE = "/api/wechat/pay/close/"
REFUND = "/api/wechat/pay/refund"
REFUNDS = "/api/wechat/pay/refunds"
HISTORY = "/api/wechat/pay/history/"
WEBHOOKS = "/api/wechat/pay/webhooks"

TEA = {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "total_fee": 100, "body": "绿茶", "attach": "table 7"}
PAY_PARAMS = {
    "appId": "wx1234567890abcdef",
    "timeStamp": "1703123456",
    "nonceStr": "5K8264ILTKCH16CQ2502SI8ZNMTM67VS",
    "package": "prepay_id=wx201410272009395522657a690389285100",
    "signType": "RSA",
    "paySign": "c2lnbmF0dXJl",
}


class Server(TestServer):
    """Run as the service is, not as aiohttp runs tests."""

    async def _make_runner(self, **_):
        return web.AppRunner(self.app, **SERVER_OPTIONS)


def closed_at_wechat(order):
    """What WeChat says of an order that it closed."""
    return Trade(out_trade_no=order.out_trade_no, trade_state=TradeState.CLOSED)


def report(order, refund, refund_status="PROCESSING"):
    """What WeChat says of a refund that it took."""
    return RefundReport(
        out_trade_no=order.out_trade_no,
        out_refund_no=refund.out_refund_no,
        refund_status=RefundStatus(refund_status),
        refund_id="50300806962023122100000000001",
    )


def said(answer, *about):
    """The answer of a script: raised, made for the question, or given as it is."""
    if isinstance(answer, Exception):
        raise answer
    return answer(*about) if callable(answer) else answer


@define
class ScriptedGateway(Gateway):
    """Answers what it is told to, and remembers what it was asked."""

    answer: object = field(factory=lambda: Prepared(prepay_id="wx201410272009395522657a690389285100"))
    word: object = field(factory=lambda: Unknown(why="not asked yet"))
    closing: object = closed_at_wechat
    refunding: object = report
    refund_word: object = report
    recovery: object = report
    placed: list = Factory(list)
    queried: list = Factory(list)
    closed: list = Factory(list)
    carried: list = Factory(list)
    recovered: list = Factory(list)

    def placement(self, client_ip):
        return Placement(
            appid="wx1234567890abcdef",
            mch_id="1900000109",
            api_version="v3",
            sign_type="RSA",
            notify_url="https://shop.example/api/wechat/pay/notify",
            client_ip=client_ip,
        )

    async def prepay(self, order):
        self.placed.append(order)
        return said(self.answer, order)

    async def pay_params(self, order, now):  # noqa: ARG002 - the port's names
        return PAY_PARAMS | {"package": f"prepay_id={order.prepay_id}"}

    async def query(self, order):
        self.queried.append(order)
        return said(self.word, order)

    async def close(self, order):
        self.closed.append(order)
        return said(self.closing, order)

    async def refund(self, order, refund):
        self.carried.append(refund)
        return said(self.refunding, order, refund)

    async def query_refund(self, order, refund):
        return said(self.refund_word, order, refund)

    async def recover_refund(self, order, refund):
        self.recovered.append(refund)
        return said(self.recovery, order, refund)


@define
class Till:
    """The routes of the JSON API in front of a store, and a client that calls them."""

    now: datetime = datetime(2023, 12, 21, 4, 34, 56, 789012, tzinfo=UTC)
    gateway: ScriptedGateway = Factory(ScriptedGateway)
    store: MemoryStore = Factory(MemoryStore)
    client: TestClient = None
    numbers: int = 0
    routes: tuple = ()
    quote_secrets: tuple = ()
    undeclared: list = Factory(list)

    @property
    def payments(self):
        return Payments(
            orders=self.store.orders,
            answers=self.store.answers,
            gateway=self.gateway,
            clock=lambda: self.now,
            mint=self.mint,
        )

    @property
    def refunds(self):
        return Refunds(
            orders=self.store.orders,
            answers=self.store.answers,
            agenda=self.store.agenda,
            gateway=self.gateway,
            payments=self.payments,
            clock=lambda: self.now,
            mint=lambda: self.mint("REF"),
        )

    @property
    def quotes(self):
        return Quotes(secrets=self.quote_secrets, clock=lambda: self.now)

    def mint(self, prefix="PAY"):
        self.numbers += 1
        return f"{prefix}1703123456{self.numbers:010d}"

    async def open(self, *more_routes, guard=open_door, **options):
        self.routes = (
            *PaymentApi(self.payments, quotes=self.quotes).routes(),
            *OrderLifeApi(self.payments, self.store.orders, self.store.outbox).routes(),
            *RefundApi(self.refunds).routes(),
            *LetterApi(self.store.outbox, lambda: self.now).routes(),
            *more_routes,
        )
        app = application(self.routes, guard=guard, **options)
        app.on_response_prepare.append(self.witness)
        self.client = TestClient(Server(app))
        await self.client.start_server()
        return self

    async def close(self):
        await self.client.close()
        assert self.undeclared == [], "answered with refusals that the route does not declare"

    async def witness(self, request, response):
        """Whatever a test provokes: a JSON route refuses only as it says it does."""
        resource = request.match_info.route.resource
        for route in self.routes:
            if isinstance(route, Route) and resource and resource.canonical == route.path:
                code = json.loads(response.body)["error"]["code"] if response.status >= 400 else ""
                if code and code not in {kind.code for kind in route.all_refusals}:
                    self.undeclared.append((route.path, code))

    async def create(self, **changes):
        """The number of a new order."""
        async with self.client.post(CREATE, json=TEA | changes) as answer:
            assert answer.status == 200, await answer.text()
            return (await answer.json())["data"]["out_trade_no"]

    async def pay(self, out_trade_no, **changes):
        """WeChat says the order is paid, twelve seconds after now."""
        order = await self.store.orders.get(out_trade_no)
        trade = {
            "out_trade_no": out_trade_no,
            "trade_state": TradeState.SUCCESS,
            "total_fee": order.total_fee,
            "transaction_id": "4200001234202312211234567890",
            "time_end": self.now + timedelta(seconds=12),
        }
        await self.payments.record(Trade(**trade | changes), "notify")

    async def paid(self, **changes):
        """The number of a new order that was paid."""
        number = await self.create(**changes)
        await self.pay(number)
        return number


async def refusal(answer, status, code, field=None):
    """Assert that the answer is this refusal and has the one shape of all refusals; returns its error."""
    found = await answer.json()
    error = found["error"]
    assert (answer.status, error["code"], error.get("field")) == (status, code, field)
    assert found == {"success": False, "error": error}
    assert set(error) <= {"code", "message", "request_id", "field", "wechat", "failed"}
    assert error["request_id"] == answer.headers["X-Request-Id"]
    assert GIVEN_REQUEST_ID.match(error["request_id"])
    assert error["message"].endswith("。")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    return error
