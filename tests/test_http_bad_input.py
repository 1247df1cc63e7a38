"""What is not an order never becomes one: refused with its reason, nothing stored, WeChat not called."""

import asyncio
import gzip
import json
import logging
from io import BytesIO

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adapters.http.serving import BODY_BYTES_MAX
from domain.errors import PaymentError
from domain.order import valid_attach, valid_body, valid_openid
from tests.http_till import CREATE, ORDERS, QUERY, TEA, Till, refusal

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def till(runner):
    till = runner.run(Till().open())
    yield till
    runner.run(till.close())


@pytest.fixture
def untouched(till):
    """Whatever the test sends, nothing comes of it."""
    yield till
    assert (till.gateway.placed, till.store.rows) == ([], {})


async def post(till, body, headers=JSON):
    return await till.client.post(CREATE, data=body, headers=headers)


def written(**changes):
    """A create's JSON with some values as literal text."""
    fields = {name: json.dumps(value) for name, value in TEA.items()} | changes
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items() if value is not None) + "}"


# -- the fee (R8) ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "literal", ["true", "false", "1.0", "1e2", "100.5", '"100"', "null", "[]", "{}", "-0.0", "1e400", None]
)
async def test_a_fee_that_is_no_whole_number_is_refused(untouched, literal):
    """R8: not a bool, not a float, not a numeric string; nor left out."""
    await refusal(await post(untouched, written(total_fee=literal)), 400, "FEE_INVALID", "total_fee")


@pytest.mark.parametrize(
    "literal", ["0", "-0", "-1", "1000001", "9223372036854775808", str(10**30), str(-(10**30)), "9" * 10_000]
)
async def test_a_fee_outside_the_limits_is_refused(untouched, literal):
    """R8: from one fen to ten thousand yuan."""
    error = await refusal(
        await post(untouched, written(total_fee=literal)), 400, "FEE_OUT_OF_RANGE", "total_fee"
    )
    assert error["message"] == "支付金额须在0.01元到10000元之间。"


# -- the other fields ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        *[({name: None}, name) for name in ("openid", "body")],
        *[
            ({name: literal}, name)
            for name in ("openid", "body", "attach")
            for literal in ("1", "true", "[]", "{}")
        ],
        *[({name: "null"}, name) for name in ("openid", "body")],
        *[({"expire_minutes": literal}, "expire_minutes") for literal in ('"5"', "true", "5.0", "[5]")],
        ({"coupon": "1"}, "coupon"),
        ({"total_fee ": "1"}, "total_fee "),
        ({"x" * 1000: "1"}, "x" * 64),
        ({"\\u0000\\n": "1"}, "\0\n"),
    ],
)
async def test_a_missing_unknown_or_wrong_field_is_named(untouched, changes, field):
    await refusal(await post(untouched, written(**changes)), 400, "BAD_REQUEST", field)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"openid": ""}, "OPENID_INVALID"),
        ({"openid": "a b"}, "OPENID_INVALID"),
        ({"openid": "o" * 129}, "OPENID_INVALID"),
        ({"body": ""}, "BODY_INVALID"),
        ({"body": "茶" * 43}, "BODY_INVALID"),  # 129 bytes
        ({"body": "\0"}, "BODY_INVALID"),
        ({"body": "🍵"}, "BODY_INVALID"),
        ({"attach": "a" * 128}, "ATTACH_INVALID"),
        ({"attach": "\x1f"}, "ATTACH_INVALID"),
        ({"expire_minutes": 1}, "EXPIRY_INVALID"),
        ({"expire_minutes": 10_081}, "EXPIRY_INVALID"),
        ({"expire_minutes": 10**30}, "EXPIRY_INVALID"),
    ],
)
async def test_a_value_no_order_can_have_is_refused_by_name(untouched, changes, code):
    (field,) = changes
    await refusal(await post(untouched, json.dumps(TEA | changes)), 400, code, field)


# -- what is not even JSON -------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        json.dumps(TEA).encode() + b"x",
        b"{'openid': 1}",
        b'{"openid": NaN}',
        b'{"openid":"\xff\xfe"}',
        b'\xef\xbb\xbf{"openid":"o1"}',
        b'{"openid":"\\ud800"}',
        b'{"\\udfff":1}',
        json.dumps(TEA).encode("utf-16"),
    ],
)
async def test_what_is_not_json_is_refused(untouched, body):
    await refusal(await post(untouched, body), 400, "BAD_JSON")


@pytest.mark.parametrize(
    "body", ["[]", "1", "null", '"x"', "true", "[" * 60_000, "[" * 30_000 + "]" * 30_000]
)
async def test_json_that_is_no_object_is_refused(untouched, body):
    await refusal(await post(untouched, body), 400, "BAD_REQUEST")


@pytest.mark.parametrize("bomb", ["[" * 60_000, '{"a":' * 12_000, "[" * 30_000 + "]" * 30_000])
async def test_a_nesting_bomb_is_refused(untouched, bomb):
    for name in ("openid", "coupon"):
        assert (await post(untouched, written(**{name: bomb}))).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "text/xml"},
        {"Content-Type": ";"},
        {"Content-Type": "application/json; charset=gbk"},
        JSON | {"Content-Encoding": "gzip"},
    ],
)
async def test_another_kind_of_body_is_refused(untouched, headers):
    body = json.dumps(TEA).encode()
    body = gzip.compress(body) if "Content-Encoding" in headers else body
    await refusal(await post(untouched, body, headers), 415, "UNSUPPORTED_MEDIA_TYPE")


async def test_a_body_without_content_type_is_refused(untouched):
    answer = await untouched.client.post(CREATE, data=b"{}", skip_auto_headers=["Content-Type"])
    await refusal(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("content_type", ["application/json; charset=UTF-8", "Application/JSON"])
async def test_json_by_another_spelling_is_json(till, content_type):
    assert (await post(till, json.dumps(TEA), {"Content-Type": content_type})).status == 200


# -- how much --------------------------------------------------------------------------------


async def test_a_body_at_the_limit_is_read_and_one_byte_more_is_not(till):
    body = json.dumps(TEA).ljust(BODY_BYTES_MAX)
    assert (await post(till, body)).status == 200
    await refusal(await post(till, body + " "), 413, "BODY_TOO_LARGE")


async def test_ten_megabytes_are_refused(untouched):
    body = BytesIO(written(body='"' + "x" * 10_000_000 + '"').encode())
    await refusal(await post(untouched, body), 413, "BODY_TOO_LARGE")


@pytest.mark.slow
async def test_a_body_of_unknown_length_is_refused_without_waiting_for_its_end(untouched):
    async def long():
        for _ in range(4096):
            yield b" " * 4096

    async with untouched.client.post(CREATE, data=long(), headers=JSON) as answer:
        await refusal(answer, 413, "BODY_TOO_LARGE")


async def test_a_chunked_body_within_the_limit_is_read(till):
    async def chunks():
        for letter in json.dumps(TEA).encode():
            yield bytes([letter])

    assert (await post(till, chunks())).status == 200


async def test_a_body_that_breaks_off_is_no_fault_of_ours(untouched, caplog):
    caplog.set_level(logging.INFO, "minitill.http")
    done = asyncio.Event()
    watch = logging.Handler()
    watch.emit = lambda _record: done.set()
    logging.getLogger("minitill.http").addHandler(watch)
    try:
        _, writer = await asyncio.open_connection(untouched.client.host, untouched.client.port)
        head = (
            "POST " + CREATE + " HTTP/1.1",
            "Host: a",
            "Content-Type: application/json",
            "Content-Length: 99",
        )
        writer.write("\r\n".join(head).encode() + b'\r\n\r\n{"openid":')
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await asyncio.wait_for(done.wait(), 10)
    finally:
        logging.getLogger("minitill.http").removeHandler(watch)
    (record,) = caplog.records
    assert (record.levelname, record.status) == ("INFO", 400)


# -- anything at all -------------------------------------------------------------------------

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NEARLY = st.fixed_dictionaries(
    {
        "openid": st.just("o1") | ANY,
        "total_fee": st.integers(-2, 1_000_002) | ANY,
        "body": st.text(min_size=1, max_size=130) | ANY,
    },
    optional={
        "attach": st.text(max_size=130) | ANY,
        "expire_minutes": st.integers(0, 10_082) | ANY,
        "coupon": ANY,
    },
)


def is_order(wish):
    """Whether the value is an order by the contract's words, said without the code that checks it."""
    if type(wish) is not dict or set(wish) - {"openid", "total_fee", "body", "attach", "expire_minutes"}:
        return False
    attach, minutes = wish.get("attach"), wish.get("expire_minutes")
    if type(wish.get("total_fee")) is not int or not 1 <= wish["total_fee"] <= 1_000_000:
        return False
    if minutes is not None and (type(minutes) is not int or not 2 <= minutes <= 10_080):
        return False
    texts = (wish.get("openid"), wish.get("body"), "" if attach is None else attach)
    if any(type(text) is not str for text in texts):
        return False
    try:
        for rule, text in zip((valid_openid, valid_body, valid_attach), texts, strict=True):
            rule(None, None, text)
    except PaymentError:
        return False
    return True


def test_any_json_is_an_order_or_a_refusal(runner, till):
    """Whatever JSON comes: never a fault of ours, and WeChat hears only of orders."""

    async def attempt(wish, ascii_only):
        till.gateway.placed.clear()
        answer = await post(till, json.dumps(wish, ensure_ascii=ascii_only).encode())
        assert answer.status == (200 if is_order(wish) else 400), await answer.text()
        assert len(till.gateway.placed) == is_order(wish)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @example(TEA, False)
    @example(TEA | {"total_fee": 1.0}, False)
    @given(ANY | NEARLY, st.booleans())
    def each(wish, ascii_only):
        runner.run(attempt(wish, ascii_only))

    each()


def test_any_bytes_are_refused_and_no_fault_of_ours(runner, till):
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    def each(body):
        assert runner.run(post(till, body)).status == 400

    each()


def test_any_path_and_query_is_answered_or_refused(runner, till):
    async def attempt(path, name, query):
        from urllib.parse import quote

        from yarl import URL

        url = URL(path + quote(name, safe="", errors="surrogatepass"), encoded=True)
        answer = await till.client.get(url.update_query(query) if query else url)
        assert answer.status in (200, 400, 404), await answer.text()

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from([QUERY, ORDERS]),
        st.text(max_size=40),
        st.dictionaries(st.sampled_from(["limit", "cursor", "status", "x"]), st.text(max_size=20)),
    )
    def each(path, name, query):
        runner.run(attempt(path, name, query))

    each()
