"""Forged notifications of each kind: each is refused, and nothing has changed (R22, R23, R46, R47)."""

import asyncio
import base64
import json
from datetime import timedelta

import pytest

from adapters.wechat import v2_wire, v3_wire
from tests.attacked_till import NOW, AttackedTill, account

LOL = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))
XXE = '<!DOCTYPE xml [<!ENTITY e SYSTEM "{}">]>'


@pytest.fixture(scope="module")
def runner():
    """One loop for the module: a till is dear to open."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def opened(runner, tmp_path_factory):
    till = runner.run(AttackedTill.open(tmp_path_factory.mktemp("till")))
    yield till
    runner.run(till.close())


@pytest.fixture
def till(opened):
    opened.begin_anew()
    return opened


async def unmoved(till, body, headers=None):
    """Tell it; assert that nothing changed, that it was refused, and return (status, answer)."""
    before = till.business()
    status, answer = await till.tells(body, headers)
    assert 400 <= status < 600
    assert till.business() == before
    return status, answer


def reason(answer):
    fields = v2_wire.read(answer)
    assert fields["return_code"] == "FAIL"
    return fields["return_msg"]


# -- V2 --------------------------------------------------------------------------------------


async def test_a_true_notification_pays_and_its_replay_changes_nothing(till):
    """R25: WeChat hears success each time."""
    number = await till.ordered()
    body = v2_wire.write(till.paid_v2(number))
    status, answer = await till.tells(body)
    assert (status, v2_wire.read(answer)["return_code"]) == (200, "SUCCESS")
    assert (await till.order(number)).status == "PAID"
    before = till.business()
    for _ in range(3):
        status, answer = await till.tells(body)
        assert (status, v2_wire.read(answer)["return_code"]) == (200, "SUCCESS")
    assert till.business() == before


V2_FORGERIES = {
    "no sign": lambda fields: {**fields, "sign": ""},
    "bad sign": lambda fields: {**fields, "sign": "0" * 32},
    "sign in lower case": lambda fields: {**fields, "sign": fields["sign"].lower()},
    "tampered amount": lambda fields: {**fields, "total_fee": "1"},
    "tampered number": lambda fields: {**fields, "transaction_id": "4200009999999999999999999999"},
    "one field more": lambda fields: {**fields, "coupon_fee": "99"},
    "one field less": lambda fields: {n: v for n, v in fields.items() if n != "bank_type"},
    "a sign_type of the sender's": lambda fields: {**fields, "sign_type": "HMAC-SHA256"},
    "a sign that is no text": lambda fields: {**fields, "sign": "签" * 32},
}


@pytest.mark.parametrize("name", V2_FORGERIES)
async def test_a_forged_v2_payment_is_refused(till, name):
    number = await till.ordered()
    fields = V2_FORGERIES[name](till.paid_v2(number))
    _, answer = await unmoved(till, v2_wire.write(fields))
    assert reason(answer) == "signature"


@pytest.mark.parametrize("key", ["0" * 32, "", "api_key"])
async def test_a_v2_payment_signed_with_another_key_is_refused(till, key):
    number = await till.ordered()
    _, answer = await unmoved(till, v2_wire.write(till.paid_v2(number, api_key=key or " ")))
    assert reason(answer) == "signature"


async def test_the_weaker_sign_is_not_the_sender_s_choice(till):
    """The stored order says MD5; a right HMAC over the same fields is still another promise."""
    number = await till.ordered()
    fields = till.paid_v2(number)
    fields["sign"] = v2_wire.sign(fields, account().api_key, "HMAC-SHA256")
    _, answer = await unmoved(till, v2_wire.write(fields))
    assert reason(answer) == "signature"


@pytest.mark.parametrize(
    "changes",
    [{"total_fee": "1"}, {"appid": "wx0000000000000000"}, {"mch_id": "1900000000"}, {"total_fee": "-100"}],
)
async def test_a_rightly_signed_lie_is_refused_too(till, changes):
    """R28."""
    number = await till.ordered()
    await unmoved(till, v2_wire.write(till.paid_v2(number, **changes)))


async def test_a_payment_for_an_order_that_is_not_ours_is_refused(till):
    await unmoved(till, v2_wire.write(till.paid_v2("PAY17041675450000000000")))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (XXE.format("file:///etc/passwd") + "<xml><a>&e;</a></xml>", "doctype"),
        (XXE.format("http://127.0.0.1:1/") + "<xml><a>&e;</a></xml>", "doctype"),
        ("<!DOCTYPE xml SYSTEM 'http://127.0.0.1:1/x.dtd'><xml/>", "doctype"),
        ("<!DOCTYPE xml [<!ENTITY % p SYSTEM 'file:///etc/passwd'> %p;]><xml/>", "doctype"),
        ('<!DOCTYPE xml [<!ENTITY l0 "lol">' + LOL + "]><xml><a>&l8;</a></xml>", None),
        ("<!DOCTYPE xml><xml/>", "doctype"),
        ("<xml><a><b>1</b></a></xml>", "nested"),
        ("<xml>" + "<a>" * 2000 + "</a>" * 2000 + "</xml>", None),
        ("<xml><total_fee>100</total_fee><total_fee>1</total_fee></xml>", "duplicate"),
        ("<xml><a>1</a><!-- x --></xml>", "malformed"),
        ("<xml><a>1<!-- x -->00</a></xml>", "malformed"),
        ("<xml><a b='c'>1</a></xml>", "malformed"),
        ("<xml xmlns='urn:x'><a>1</a></xml>", None),
        ("<xml><?php x?></xml>", "malformed"),
        ("<xml><a>&lt;</a>", "malformed"),
        ("<other><a>1</a></other>", "root"),
        ("<xml><a>&undefined;</a></xml>", "malformed"),
        ("<xml><xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='/etc/passwd'/></xml>", None),
        ("", "malformed"),
    ],
)  # fmt: skip
async def test_xml_that_is_more_than_flat_fields_is_refused(till, text, why):
    """XXE and entity bombs among them."""
    _, answer = await unmoved(till, text.encode())
    assert why is None or reason(answer) == why
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "body",
    [
        b"<?xml version='1.0' encoding='utf-16'?><xml><a>1</a></xml>",
        "<xml><a>1</a></xml>".encode("utf-16"),
        b"<xml><a>\xff\xfe</a></xml>",
        b"<xml><a>\x00</a></xml>",
        b"<xml><a>" + b"x" * 70_000 + b"</a></xml>",
    ],
)
async def test_bytes_that_are_no_utf_8_or_too_many_are_refused(till, body):
    await unmoved(till, body)


REFUND = {
    "out_refund_no": "REF17041675450000000000",
    "out_trade_no": "PAY17041675450000000000",
    "refund_id": "50300806962023122100000000001",
    "refund_fee": "100",
    "total_fee": "100",
    "settlement_refund_fee": "100",
    "refund_status": "SUCCESS",
    "success_time": "2024-01-02 11:04:05",
    "transaction_id": "4200002050202408051234567890",
}


def sealed(key, inside=None, **envelope):
    plain = v2_wire.write(REFUND, root="root") if inside is None else inside
    return v2_wire.write(
        {
            "return_code": "SUCCESS",
            "appid": account().appid,
            "mch_id": account().mch_id,
            "nonce_str": "n",
            "req_info": v2_wire.seal_req_info(plain, key),
            **envelope,
        }
    )


async def test_a_forged_v2_refund_is_refused(till):
    for body in (
        sealed("0" * 32),
        sealed(account().api_key, mch_id="1900000000"),
        sealed(account().api_key, req_info="AAAA"),
        sealed(account().api_key, req_info="!"),
        sealed(account().api_key, b"<!DOCTYPE root [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><root>&e;</root>"),
        sealed(account().api_key),  # rightly sealed, but no refund of ours
    ):  # fmt: skip
        await unmoved(till, body)


# -- V3 --------------------------------------------------------------------------------------


async def test_a_true_v3_notification_pays_and_its_replay_changes_nothing(till):
    """R25, R27: within the window a replay is harmless; later it is refused."""
    number = await till.ordered()
    body = till.paid_v3(number)
    headers = till.signed_v3(body)
    assert (await till.tells(body, headers))[0] == 204
    assert (await till.order(number)).status == "PAID"
    before = till.business()
    assert (await till.tells(body, headers))[0] == 204
    assert till.business() == before
    till.now += timedelta(seconds=300)
    status, answer = await unmoved(till, body, headers)
    assert (status, answer["message"]) == (401, "clock")


def other_key():
    return v3_wire.load_private_key(account().file("apiclient_key.pem").read_bytes())


V3_FORGERIES = {
    "no sign": (lambda till, body: till.signed_v3(body, **{"Wechatpay-Signature": None}), "missing_header"),
    "no serial": (lambda till, body: till.signed_v3(body, **{"Wechatpay-Serial": None}), "missing_header"),
    "nothing but JSON": (lambda _till, _body: {"Content-Type": "application/json"}, "missing_header"),
    "other key": (lambda till, body: till.signed_v3(body, key=other_key()), "signature"),
    "other body": (lambda till, _body: till.signed_v3(b"{}"), "signature"),
    "other nonce": (lambda till, body: till.signed_v3(body, **{"Wechatpay-Nonce": "x"}), "signature"),
    "no base64": (lambda till, body: till.signed_v3(body, **{"Wechatpay-Signature": "!"}), "signature"),
    "empty base64": (lambda till, body: till.signed_v3(body, **{"Wechatpay-Signature": "===="}), "signature"),
    "old": (lambda till, body: till.signed_v3(body, ago=timedelta(seconds=300)), "clock"),
    "future": (lambda till, body: till.signed_v3(body, ago=timedelta(seconds=-300)), "clock"),
    "no time": (lambda till, body: till.signed_v3(body, **{"Wechatpay-Timestamp": "now"}), "clock"),
    "1e9 as time": (lambda till, body: till.signed_v3(body, **{"Wechatpay-Timestamp": "1e9"}), "clock"),
    "probe": (
        lambda till, body: till.signed_v3(body, **{"Wechatpay-Signature": v3_wire.PROBE_PREFIX + "x"}),
        "probe",
    ),
    "other type": (
        lambda till, body: till.signed_v3(body, **{"Wechatpay-Signature-Type": "WECHATPAY2-SM2-WITH-SM3"}),
        "type",
    ),
    "our own certificate's serial": (
        lambda till, body: till.signed_v3(body, key=other_key(), serial=account().merchant.serial),
        "serial",
    ),
    "unknown serial": (lambda till, body: till.signed_v3(body, serial="PUB_KEY_ID_0000"), "serial"),
}  # fmt: skip


@pytest.mark.parametrize("name", V3_FORGERIES)
async def test_a_forged_v3_notification_is_refused(till, name):
    """R23, R26, R27."""
    number = await till.ordered()
    body = till.paid_v3(number)
    make, why = V3_FORGERIES[name]
    status, answer = await unmoved(till, body, make(till, body))
    assert (status, answer) == (401, {"code": "FAIL", "message": why})


async def test_another_apiv3_key_does_not_open_here(till):
    """R32."""
    number = await till.ordered()
    body = till.paid_v3(number, apiv3_key="0" * 32)
    status, answer = await unmoved(till, body, till.signed_v3(body))
    assert (status, answer["message"]) == (500, "decrypt")


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": {"total": 1, "payer_total": 1, "currency": "CNY"}},
        {"amount": {"total": True, "currency": "CNY"}},
        {"amount": {"total": "100", "currency": "CNY"}},
        {"amount": {"total": 100.0, "currency": "CNY"}},
        {"amount": []},
        {"appid": "wx0000000000000000"},
        {"mchid": "1900000000"},
        {"out_trade_no": "PAY17041675450000000000"},
        {"out_trade_no": None},
        {"success_time": "yesterday"},
    ],
)
async def test_a_rightly_signed_v3_lie_is_refused_too(till, changes):
    """R28, R47."""
    number = await till.ordered()
    body = till.paid_v3(number, **changes)
    await unmoved(till, body, till.signed_v3(body))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 50_000,
        b'{"a":' * 10_000,
        b"[]",
        b"null",
        b'{"id": 1}',
        b'{"id": "x", "event_type": "TRANSACTION.SUCCESS", "resource": "x"}',
        b'{"id": "x", "event_type": "TRANSACTION.SUCCESS", "resource": {"ciphertext": 1}}',
        b'{"id": "x", "event_type": "TRANSACTION.SUCCESS"} trailing',
        b'{"n": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"{" + b" " * 70_000 + b"}",
    ],
)
async def test_json_tricks_are_refused_though_rightly_signed(till, body):
    await unmoved(till, body, till.signed_v3(body))


async def test_a_second_resource_under_the_same_name_does_not_hide_the_first(till):
    """Duplicate keys: whichever counts, it was sealed with our APIv3 key or it is refused."""
    number = await till.ordered()
    body = till.paid_v3(number)
    extra = json.loads(till.paid_v3(number, apiv3_key="0" * 32))["resource"]
    doubled = body[:-1] + b', "resource": ' + json.dumps(extra).encode() + b"}"
    await unmoved(till, doubled, till.signed_v3(doubled))


async def test_a_signature_does_not_stretch_over_two_meanings(till):
    """The nonce may hold no line break that would shift what was signed."""
    number = await till.ordered()
    body = till.paid_v3(number)
    stamp = str(int(NOW.timestamp()))
    shifted = v3_wire.sign(account().public_key, v3_wire.response_message(stamp, "n", b"x\n" + body))
    headers = till.signed_v3(body, **{"Wechatpay-Nonce": "n x", "Wechatpay-Signature": shifted})
    assert (await unmoved(till, body, headers))[0] == 401
    assert base64.b64decode(shifted)


async def test_no_login_is_asked_of_wechat_and_none_helps_a_forger(till):
    """R22."""
    number = await till.ordered()
    fields = {**till.paid_v2(number), "sign": "0" * 32}
    headers = {"Content-Type": "text/xml", "Authorization": f"Bearer {till.token()}"}
    _, answer = await unmoved(till, v2_wire.write(fields), headers)
    assert reason(answer) == "signature"
