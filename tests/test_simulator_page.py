"""The payer's page: a cashier sheet a person can use, and nothing an order holds can break it."""

import re
from datetime import timedelta

import pytest

from adapters.wechat.simulator.page import _yuan
from tests.simulator_side import NUMBER, merchant

EVIL = """<script>alert("1")</script>'&"""


async def page(shop, path, *, status=200):
    async with shop.session.get(shop.simulator.url + path) as response:
        assert response.status == status
        return await response.text()


async def press(shop, act, number=NUMBER, *, status=200, **form):
    url = f"{shop.simulator.url}/cashier/{number}"
    async with shop.session.post(url, data={"act": act, **form}) as response:
        assert response.status == status
        text = await response.text()
    await shop.simulator.settle()
    return text


async def test_the_sheet_shows_the_amount_in_yuan_and_what_is_bought():
    async with merchant() as shop:
        await shop.place_v2(total_fee=123456, body="一壶茶")
        html = await page(shop, f"/cashier/{NUMBER}")
        assert '<html lang="zh-CN">' in html
        assert "<small>¥</small>1234.56" in html
        for words in ("一壶茶", NUMBER, ">支付<", ">取消<", ">支付失败<", "#07c160", "零钱"):
            assert words in html


async def test_paying_on_the_sheet_pays_and_tells_the_merchant():
    async with merchant() as shop:
        await shop.place_v3()
        html = await press(shop, "pay")
        assert "支付成功" in html
        assert ">支付<" not in html
        assert len(shop.heard) == 1
        assert (await shop.query_v3())[1]["bank_type"] == "OTHERS"


async def test_a_card_can_be_chosen():
    async with merchant() as shop:
        await shop.place_v3()
        html = await press(shop, "pay", method="CMB_CREDIT")
        assert "招商银行信用卡" in html
        assert (await shop.query_v3())[1]["bank_type"] == "CMB_CREDIT"


@pytest.mark.parametrize(("act", "words"), [("cancel", "您已取消支付"), ("fail", "支付失败，可重新支付")])
async def test_r15_cancelling_or_failing_leaves_the_order_payable(act, words):
    async with merchant() as shop:
        await shop.place_v3()
        assert words in await press(shop, act)
        assert (await shop.query_v3())[1]["trade_state"] == "NOTPAY"
        assert shop.heard == []
        assert "支付成功" in await press(shop, "pay")


async def test_what_cannot_be_paid_shows_why():
    async with merchant() as shop:
        await shop.place_v3()
        await shop.close_v3()
        for html in (await page(shop, f"/cashier/{NUMBER}"), await press(shop, "pay")):
            assert "订单已关闭" in html
            assert ">支付<" not in html
        await shop.place_v3("STALE1")
        shop.simulator.clock.advance(timedelta(hours=2))
        for html in (await page(shop, "/cashier/STALE1"), await press(shop, "pay", "STALE1")):
            assert "支付会话已过期" in html
        assert shop.heard == []


async def test_a_refunded_order_says_so():
    async with merchant() as shop:
        await shop.place_v3()
        await shop.pay()
        await shop.refund_v3(reason=EVIL)
        assert "已退款" in await page(shop, f"/cashier/{NUMBER}")
        index = await page(shop, "/")
        assert "REF1" in index
        assert "处理中" in index
        assert "<script>" not in index


async def test_a_second_press_does_not_pay_twice():
    async with merchant() as shop:
        await shop.place_v3()
        await press(shop, "pay")
        assert "支付成功" in await press(shop, "pay")
        assert len(shop.heard) == 1


async def test_whatever_an_order_holds_is_escaped():
    async with merchant() as shop:
        await shop.place_v2(body=EVIL, out_trade_no="PAY*|-_1")
        for html in (await page(shop, "/"), await page(shop, "/cashier/PAY%2A%7C-_1")):
            assert "<script>" not in html
            assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&#x27;&amp;" in html


async def test_the_index_lists_orders_newest_first_with_a_link_each():
    async with merchant() as shop:
        assert "还没有订单" in await page(shop, "/")
        for number in ("FIRST1", "SECOND|2"):
            await shop.place_v3(number)
        html = await page(shop, "/")
        assert re.findall(r'href="(/cashier/[^"]+)"', html) == ["/cashier/SECOND%7C2", "/cashier/FIRST1"]
        assert str(shop.simulator.credentials.directory) in html
        assert shop.simulator.credentials.api_key not in html


async def test_a_prepay_id_leads_to_its_sheet():
    async with merchant() as shop:
        prepay_id = (await shop.place_v3())[1]["prepay_id"]
        for wanted in (prepay_id, f"prepay_id={prepay_id}"):
            assert NUMBER in await page(shop, f"/cashier?prepay_id={wanted}")
        await page(shop, "/cashier?prepay_id=wx1", status=404)


async def test_pages_load_nothing_from_elsewhere():
    async with merchant() as shop:
        await shop.place_v3()
        for path in ("/", f"/cashier/{NUMBER}"):
            async with shop.session.get(shop.simulator.url + path) as response:
                html = await response.text()
                assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", html)


async def test_what_is_no_button_or_no_order_is_refused():
    async with merchant() as shop:
        await shop.place_v3()
        await press(shop, "steal", status=400)
        await press(shop, "pay", status=400, method="IOU")
        await press(shop, "pay", "NOBODY", status=404)
        await page(shop, "/cashier/NOBODY", status=404)


@pytest.mark.parametrize(("fee", "yuan"), [(1, "0.01"), (29, "0.29"), (100, "1.00"), (1_000_000, "10000.00")])
def test_fen_become_yuan_exactly(fee, yuan):
    assert _yuan(fee) == yuan
