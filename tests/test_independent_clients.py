"""Clients that others wrote pay here as they would at WeChat: wechatpy in V2, wechatpayv3 in V3."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import wechatpayv3.core
import wechatpy
from wechatpayv3 import WeChatPayType
from wechatpy.exceptions import WeChatPayException

from adapters.wechat.simulator.clock import real_time
from tests.simulator_side import NUMBER, OPENID, merchant


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@asynccontextmanager
async def running(**how):
    """A simulator on the real time, which is the only one these clients know."""
    async with merchant(**how) as shop:
        shop.simulator.clock.base = real_time
        yield shop


def wechatpy_client(shop, *, tls=False):
    credentials = shop.simulator.credentials
    pay = wechatpy.WeChatPay(
        credentials.appid,
        credentials.api_key,
        credentials.mch_id,
        mch_cert=str(credentials.file("apiclient_cert.pem")),
        mch_key=str(credentials.file("apiclient_key.pem")),
        timeout=10,
    )
    pay.API_BASE_URL = f"{shop.simulator.tls_url if tls else shop.simulator.url}/"
    pay._http.trust_env = False  # a machine's own CA bundle or proxy is not meant here
    pay._http.verify = str(credentials.file("tls_cert.pem"))
    return pay


def order_v2(pay, shop, **change):
    return pay.order.create(
        "JSAPI",
        "一壶茶",
        100,
        shop.notify_url,
        client_ip="127.0.0.1",
        user_id=OPENID,
        out_trade_no=NUMBER,
        **change,
    )


@pytest.mark.parametrize("sign_type", ["MD5", "HMAC-SHA256"])
async def test_wechatpy_places_queries_and_closes_an_order(sign_type):
    async with running() as shop:
        pay = wechatpy_client(shop)
        placed = await asyncio.to_thread(order_v2, pay, shop, sign_type=sign_type)
        assert shop.is_signed(placed, sign_type)
        if sign_type == "MD5":  # the only one it checks
            assert pay.check_signature(placed)
        asked = await asyncio.to_thread(pay.order.query, out_trade_no=NUMBER)
        assert asked["trade_state"] == "NOTPAY"
        await asyncio.to_thread(pay.order.close, NUMBER)
        asked = await asyncio.to_thread(pay.order.query, out_trade_no=NUMBER)
        assert asked["trade_state"] == "CLOSED"
        with pytest.raises(WeChatPayException) as refused:
            await asyncio.to_thread(pay.order.close, NUMBER)
        assert refused.value.errcode == "ORDERCLOSED"
        pay._http.close()


async def test_wechatpy_is_paid_and_understands_the_notification():
    async with running() as shop:
        pay = wechatpy_client(shop)
        placed = await asyncio.to_thread(order_v2, pay, shop)
        params = pay.jsapi.get_jsapi_params(placed["prepay_id"], timestamp=str(int(real_time().timestamp())))
        await shop.sim("pay", {"pay_params": params})
        await shop.simulator.settle()
        told = pay.parse_payment_result(shop.heard[0].body)
        assert (told["out_trade_no"], told["total_fee"], told["result_code"]) == (NUMBER, 100, "SUCCESS")
        pay._http.close()


async def test_wechatpy_refunds_over_mutual_tls_and_opens_the_notification():
    async with running(tls=True) as shop:
        pay = wechatpy_client(shop, tls=True)
        await asyncio.to_thread(order_v2, pay, shop)
        await shop.pay()
        taken = await asyncio.to_thread(
            pay.refund.apply, 100, 60, "REF1", out_trade_no=NUMBER, notify_url=shop.notify_url
        )
        assert (taken["result_code"], pay.check_signature(taken)) == ("SUCCESS", True)
        await shop.sim("refunds/REF1/succeed", {})
        await shop.simulator.settle()
        asked = await asyncio.to_thread(pay.refund.query, out_trade_no=NUMBER)
        assert asked["refund_status_0"] == "SUCCESS"
        told = pay.parse_refund_notify_result(shop.heard[1].body)
        assert (told["out_refund_no"], told["refund_status"]) == ("REF1", "SUCCESS")
        pay._http.close()


@pytest.fixture(params=["certificates", "public key"])
def mode(request):
    return request.param


def wechatpayv3_client(shop, mode, monkeypatch):
    """In certificate mode it fetches /v3/certificates as it is made, so call this in a thread."""
    credentials = shop.simulator.credentials

    class Core(wechatpayv3.core.Core):
        @property
        def _gate_way(self):
            return shop.simulator.url

        @_gate_way.setter
        def _gate_way(self, official):
            assert official.startswith("https://")

    monkeypatch.setattr(wechatpayv3.core, "Core", Core)
    public = {
        "public_key": credentials.file("pub_key.pem").read_text(),
        "public_key_id": credentials.public_key_id,
    }
    return wechatpayv3.WeChatPay(
        WeChatPayType.MINIPROG,
        credentials.mch_id,
        credentials.file("apiclient_key.pem").read_text(),
        credentials.merchant.serial,
        credentials.appid,
        credentials.apiv3_key,
        notify_url=shop.notify_url,
        timeout=10,
        **(public if mode == "public key" else {}),
    )


def order_v3(pay):
    expires = datetime.fromtimestamp(real_time().timestamp() + 600, UTC).isoformat(timespec="seconds")
    code, message = pay.pay(
        "一壶茶",
        out_trade_no=NUMBER,
        amount={"total": 100},
        payer={"openid": OPENID},
        attach="桌 7",
        time_expire=expires,
    )
    return code, json.loads(message)


async def test_wechatpayv3_places_queries_and_closes_an_order(mode, monkeypatch):
    async with running(public_key_mode=mode == "public key") as shop:
        pay = await asyncio.to_thread(wechatpayv3_client, shop, mode, monkeypatch)
        code, placed = await asyncio.to_thread(order_v3, pay)
        assert (code, placed["prepay_id"][:2]) == (200, "wx")
        code, message = await asyncio.to_thread(pay.query, out_trade_no=NUMBER)
        assert (code, json.loads(message)["trade_state"]) == (200, "NOTPAY")
        code, _ = await asyncio.to_thread(pay.close, NUMBER)
        assert code == 204
        code, message = await asyncio.to_thread(pay.query, out_trade_no=NUMBER)
        assert (code, json.loads(message)["trade_state"]) == (200, "CLOSED")
        code, message = await asyncio.to_thread(pay.query, out_trade_no="NOBODY")
        assert (code, json.loads(message)["code"]) == (404, "ORDER_NOT_EXIST")


async def test_wechatpayv3_is_paid_refunds_and_understands_the_notifications(mode, monkeypatch):
    async with running(public_key_mode=mode == "public key") as shop:
        pay = await asyncio.to_thread(wechatpayv3_client, shop, mode, monkeypatch)
        _, placed = await asyncio.to_thread(order_v3, pay)
        stamp, package = str(int(real_time().timestamp())), f"prepay_id={placed['prepay_id']}"
        signed = pay.sign([shop.simulator.credentials.appid, stamp, "abc", package])
        params = {"timeStamp": stamp, "nonceStr": "abc", "package": package, "signType": "RSA"}
        await shop.sim("pay", {"pay_params": {**params, "paySign": signed}})
        await shop.simulator.settle()
        told = pay.callback(shop.heard[0].headers, shop.heard[0].body)
        assert (told["event_type"], told["resource"]["trade_state"]) == ("TRANSACTION.SUCCESS", "SUCCESS")
        amount = {"refund": 60, "total": 100, "currency": "CNY"}
        code, _ = await asyncio.to_thread(pay.refund, "REF1", amount, out_trade_no=NUMBER, reason="凉了")
        assert code == 200
        await shop.sim("refunds/REF1/succeed", {})
        await shop.simulator.settle()
        told = pay.callback(shop.heard[1].headers, shop.heard[1].body)
        assert told["resource"]["refund_status"] == "SUCCESS"
        code, message = await asyncio.to_thread(pay.query_refund, "REF1")
        assert (code, json.loads(message)["status"]) == (200, "SUCCESS")


async def test_wechatpayv3_follows_a_new_platform_certificate(monkeypatch):
    async with running() as shop:
        pay = await asyncio.to_thread(wechatpayv3_client, shop, "certificates", monkeypatch)
        await shop.sim("rotate-keys", {})
        code, _ = await asyncio.to_thread(order_v3, pay)
        assert code == 200
