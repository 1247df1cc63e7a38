"""The whole service as it stands on the open internet: AUTH_MODE=token, a database file, real HTTP.

Everything a test sends is compared with the database: whatever was refused changed nothing.
"""

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import aiohttp
import jwt
from attrs import Factory, define, field
from dotenv import dotenv_values
from yarl import URL

from adapters.http.tokens import Tokens, kid_of
from adapters.wechat import v2_wire, v3_wire
from application.access import ApiKey, Scope, digest_of
from domain.order import Placement
from entrypoints.settings import load
from entrypoints.till import Till, address_of, listen
from tests.http_till import ScriptedGateway
from tests.simulator_side import account

NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
NOTIFY = "/api/wechat/pay/notify"
ALICE, BOB = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "oBobBobBobBobBobBobBobBobBob"
TOKEN_SECRET, OLD_SECRET = "token-secret-of-more-than-32-characters", "old-token-secret-of-more-than-32-chars"
QUOTE_SECRET = "quote-secret-of-more-than-32-characters"
KEYS = {
    scopes: "mt_" + (scopes.replace(",", "_") + "Key" * 20)[:43]
    for scopes in ("admin", "pay", "read", "refund", "pay,read", "pay,read,refund", "read,refund")
}
# Evidence of what was refused, the use of keys, and who does which job are no business of the shop's.
NOT_BUSINESS = {"jobs", "failures", "api_keys", "sqlite_sequence", "sqlite_stat1", "failure_counts"}
TEA = {"openid": ALICE, "total_fee": 100, "body": "绿茶"}


class Gateway(ScriptedGateway):
    """WeChat's answers from a list, for the merchant that the notifications are signed for."""

    def placement(self, client_ip):
        return Placement(
            appid=account().appid,
            mch_id=account().mch_id,
            api_version="v2",
            sign_type="MD5",
            notify_url="https://shop.example" + NOTIFY,
            client_ip=client_ip,
        )


class QuietTill(Till):
    """Without the repeating work: what changes was done by a request."""

    def start_jobs(self):
        """Nothing to begin."""


@define
class AttackedTill:
    """A running till, and what an attacker and the honest parties can do with it."""

    url: str
    till: Till
    session: aiohttp.ClientSession
    path: str
    now: datetime = NOW
    gateway: Gateway = field(factory=Gateway)
    doors: list = Factory(list)

    @classmethod
    async def open(cls, folder, **variables):
        door = listen("127.0.0.1", 0)
        given = dotenv_values(account().file("simulator.env"))
        settings = load(
            {
                **given,
                "WECHAT_PAY_NOTIFY_URL": "https://shop.example" + NOTIFY,
                "MINITILL_DATABASE": f"sqlite:///{folder / 'minitill.db'}",
                "MINITILL_TOKEN_SECRET": f"{TOKEN_SECRET},{OLD_SECRET}",
                "MINITILL_QUOTE_SECRET": QUOTE_SECRET,
                "MINITILL_CREATES_PER_MINUTE": "1000",
                **variables,
            }
        )
        self = cls(address_of(door), None, aiohttp.ClientSession(), str(folder / "minitill.db"), doors=[door])
        self.till = await QuietTill.open(settings, clock=lambda: self.now, gateway=self.gateway)
        for number, (scopes, key) in enumerate(KEYS.items()):
            held = ApiKey(
                id=f"k{number}",
                name=scopes,
                scopes=frozenset(map(Scope, scopes.split(","))),
                created_at=NOW,
            )
            await self.till.store.keys.add(held, digest_of(key))
        await self.till.start(door)
        return self

    def begin_anew(self):
        """For the next test: it is the same moment as ever, and WeChat was asked nothing."""
        self.now = NOW
        for asked in (self.gateway.placed, self.gateway.closed, self.gateway.carried, self.gateway.queried):
            asked.clear()

    async def close(self):
        await self.session.close()
        await self.till.stop()
        for door in self.doors:
            door.close()

    # -- what is asked -----------------------------------------------------------------------

    async def call(self, method, path, *, bearer=None, **how):
        """The status, the document and the headers of an answer."""
        headers = dict(how.pop("headers", {}))
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        url = URL(self.url + path, encoded=True)
        async with self.session.request(method, url, headers=headers, allow_redirects=False, **how) as answer:
            text = await answer.read()
            is_json = answer.headers.get("Content-Type", "").startswith("application/json") and text
            return answer.status, json.loads(text) if is_json else text, answer.headers

    async def refuses(self, status, code, method, path, **how):
        """Assert that it is refused so, and that nothing has changed."""
        before = self.business()
        found, document, _ = await self.call(method, path, **how)
        assert (found, document["error"]["code"]) == (status, code)
        assert document["success"] is False
        assert self.business() == before
        return document["error"]

    async def tells(self, body, headers=None):
        """A notification's status and answer."""
        headers = headers or {"Content-Type": "text/xml"}
        status, answer, _ = await self.call("POST", NOTIFY, data=body, headers=headers)
        return status, answer

    def business(self):
        """All rows of all tables that tell of orders and money."""
        db = sqlite3.connect(self.path)
        try:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {
                table: sorted(map(repr, db.execute(f"SELECT * FROM {table}")))
                for table in tables
                if table not in NOT_BUSINESS
            }
        finally:
            db.close()

    async def ordered(self, **changes):
        """The number of an order, made by the shop's backend."""
        status, document, _ = await self.call(
            "POST", "/api/wechat/pay/create", bearer=KEYS["pay"], json=TEA | changes
        )
        assert status == 200, document
        return document["data"]["out_trade_no"]

    async def order(self, number):
        return await self.till.store.orders.get(number)

    # -- who asks ----------------------------------------------------------------------------

    def token(self, openid=ALICE):
        """A payer's true token."""
        return Tokens(secrets=(TOKEN_SECRET,), appid=account().appid, hours=24, clock=lambda: self.now).issue(
            openid
        )[0]

    def forged(self, secret=TOKEN_SECRET, algorithm="HS256", headers=None, **claims):
        """A token of an attacker's making; None leaves a claim out."""
        moment = int(self.now.timestamp())
        said = {
            "sub": ALICE,
            "appid": account().appid,
            "iat": moment,
            "exp": moment + 3600,
            "typ": "payer",
            **claims,
        }
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, secret, algorithm, {"kid": kid_of(TOKEN_SECRET), **(headers or {})})

    def quote(self, secret=QUOTE_SECRET, **claims):
        said = {"total_fee": 100, "body": "绿茶", "exp": int(self.now.timestamp()) + 60, **claims}
        return jwt.encode(said, secret, "HS256")

    # -- what WeChat says --------------------------------------------------------------------

    def paid_v2(self, number, *, api_key=None, **changes):
        """V2's notification of a payment; a change is made before signing."""
        fields = {
            "return_code": "SUCCESS",
            "result_code": "SUCCESS",
            "appid": account().appid,
            "mch_id": account().mch_id,
            "nonce_str": "5K8264ILTKCH16CQ2502SI8ZNMTM67VS",
            "openid": ALICE,
            "is_subscribe": "N",
            "trade_type": "JSAPI",
            "bank_type": "CMC",
            "total_fee": "100",
            "fee_type": "CNY",
            "cash_fee": "100",
            "transaction_id": "42000020502" + number[-17:],
            "out_trade_no": number,
            "time_end": "20240102110412",
            **changes,
        }
        return {**fields, "sign": v2_wire.sign(fields, api_key or account().api_key, "MD5")}

    def paid_v3(self, number, *, apiv3_key=None, **changes):
        """V3's notification of a payment, not signed yet."""
        document = {
            "appid": account().appid,
            "mchid": account().mch_id,
            "out_trade_no": number,
            "transaction_id": "42000020502" + number[-17:],
            "trade_type": "JSAPI",
            "trade_state": "SUCCESS",
            "trade_state_desc": "支付成功",
            "success_time": "2024-01-02T11:04:12+08:00",
            "payer": {"openid": ALICE},
            "amount": {"total": 100, "payer_total": 100, "currency": "CNY", "payer_currency": "CNY"},
            **changes,
        }
        plain = json.dumps(document).encode()
        sealed = v3_wire.seal_resource(apiv3_key or account().apiv3_key, "0123456789ab", "transaction", plain)
        return json.dumps(
            {
                "id": "EV-2018022511223320873",
                "create_time": "2024-01-02T11:04:13+08:00",
                "resource_type": "encrypt-resource",
                "event_type": "TRANSACTION.SUCCESS",
                "summary": "支付成功",
                "resource": {
                    "original_type": "transaction",
                    "algorithm": v3_wire.ALGORITHM,
                    "ciphertext": sealed,
                    "associated_data": "transaction",
                    "nonce": "0123456789ab",
                },
            }
        ).encode()

    def signed_v3(self, body, *, key=None, serial=None, ago=timedelta(), **headers):
        """The headers that vouch for a body; a change is made after signing."""
        stamp = str(int((self.now - ago).timestamp()))
        message = v3_wire.response_message(stamp, "n0nceOfWeChats", body)
        made = {
            "Content-Type": "application/json",
            "Wechatpay-Timestamp": stamp,
            "Wechatpay-Nonce": "n0nceOfWeChats",
            "Wechatpay-Signature": v3_wire.sign(key or account().public_key, message),
            "Wechatpay-Serial": serial or account().public_key_id,
            "Wechatpay-Signature-Type": v3_wire.SCHEME,
            **headers,
        }
        return {name: value for name, value in made.items() if value is not None}
