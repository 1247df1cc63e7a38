"""What holds for every request: its id, its line in the log, faults of ours, other origins, other words."""

import asyncio
import logging
import re

import pytest
from aiohttp import web

from adapters.http.routes import Caller, PlainRoute, Route, Who
from adapters.http.shapes import HealthAnswer
from adapters.http.trace import request_id
from application.access import Scope
from application.errors import Busy, StoreUnavailable
from application.ports import Refused
from domain.errors import PaymentError
from tests.http_till import CREATE, ORDERS, QUERY, STATS, TEA, Till, refusal

PAGE = "https://shop.example"
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}


class Unlisted(PaymentError):
    """A refusal that nobody gave a status and a sentence."""

    code = "UNLISTED"


def plain(handler, path="/notify", who=Who.WECHAT):
    return PlainRoute(method="POST", path=path, who=who, handler=handler, summary="plain")


async def taken(_request):
    return web.Response(text="<xml>OK</xml>", content_type="text/xml")


@pytest.fixture
def served(runner):
    """Opens tills, and closes them after the test."""
    tills = []

    async def open_till(*routes, **options):
        tills.append(await Till().open(*routes, **options))
        return tills[-1]

    yield open_till
    for till in tills:
        runner.run(till.close())


@pytest.fixture
def lines(caplog):
    """The messages of the HTTP log."""
    caplog.set_level(logging.INFO, "minitill.http")
    return lambda: [told(record) for record in caplog.records if record.name == "minitill.http"]


def told(record):
    """The line with its facts, as the log shows them."""
    names = ("request_id", "caller", "code", "out_trade_no")
    facts = " ".join(f"{name}={getattr(record, name)}" for name in names if hasattr(record, name))
    time = f"{record.milliseconds:.1f}ms " if facts else ""
    return f"{record.getMessage()} {time}{facts}".strip()


# -- request ids -----------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["shop-2024_00042", "a" * 8, "Z" * 64])
async def test_a_sane_request_id_is_kept(served, lines, given):
    till = await served()
    answer = await till.client.get(STATS, headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] == given
    assert f"request_id={given} " in lines()[-1]


@pytest.mark.parametrize(
    "given", ["", "short", "a" * 65, "with space", "semi;colon", "new\tline", "中文字符编号呀"]
)
async def test_any_other_request_id_is_replaced(served, given):
    till = await served(new_request_id=lambda: "0123456789abcdef")
    answer = await till.client.get(STATS, headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] == "0123456789abcdef"


async def test_request_ids_are_sixteen_digits_of_chance(served):
    till = await served()
    ids = [(await till.client.get(STATS)).headers["X-Request-Id"] for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)


async def test_each_request_knows_its_own_id_while_others_run_beside_it(served):
    both, seen = asyncio.Barrier(2), []

    async def handler(request):
        await both.wait()
        seen.append((request.headers["X-Request-Id"], request_id()))
        return web.Response()

    till = await served(plain(handler))
    await asyncio.gather(
        *(till.client.post("/notify", headers={"X-Request-Id": f"request-{n}"}) for n in "12")
    )
    assert sorted(seen) == [("request-1", "request-1"), ("request-2", "request-2")]
    assert request_id() == "-"


# -- the log ---------------------------------------------------------------------------------


async def test_each_request_is_one_line_of_the_log(served, lines):
    till = await served()
    number = await till.create()
    await till.client.get(QUERY + number)
    await till.client.get(QUERY + "UNKNOWN")
    template = QUERY + "{out_trade_no}"
    expected = [
        f"POST {CREATE} 200 T request_id=I caller=anyone code=- out_trade_no={number}",
        f"GET {template} 200 T request_id=I caller=anyone code=- out_trade_no={number}",
        "GET " + template + " 404 T request_id=I caller=anyone code=ORDER_NOT_FOUND out_trade_no=UNKNOWN",
    ]
    assert [
        re.sub(r"\d+\.\dms", "T", re.sub("id=[0-9a-f]{16}", "id=I", line)) for line in lines()
    ] == expected


async def test_the_log_holds_neither_query_nor_body_nor_token_nor_openid(served, lines):
    till = await served()
    secrets = {"Authorization": "Bearer mt_secret", "Cookie": "session=secret"}
    await till.client.post(CREATE, json=TEA | {"attach": "secret"}, headers=secrets)
    await till.client.post(CREATE, json=TEA | {"secret": "secret"}, headers=secrets)
    await till.client.get(ORDERS + TEA["openid"], params={"token": "secret"}, headers=secrets)
    await till.client.get("/secret?key=secret", headers=secrets)
    assert len(lines()) == 4
    assert "secret" not in "".join(lines())
    assert TEA["openid"] not in "".join(lines())


async def test_nobody_writes_a_line_of_our_log(served, lines, caplog):
    till = await served()
    till.gateway.answer = Refused(
        meaning="PAYER", err_code="X", description="no\nERROR minitill: all is lost"
    )
    await till.client.post(CREATE, json=TEA)
    await till.client.get("/a%0Ab")
    await till.client.get(QUERY + "a%0Ab")
    assert not [line for line in lines() if "\n" in line]
    assert "WECHAT_REFUSED: PAY17031234560000000001: WeChat refused: X no ERROR minitill" in lines()[0]
    assert "out_trade_no=PAY17031234560000000001" in lines()[1]


# -- faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [RuntimeError, TimeoutError, StopAsyncIteration, Unlisted])
async def test_a_fault_of_ours_is_logged_whole_and_told_to_nobody(served, caplog, fault):
    till = await served()
    till.gateway.answer = fault("the key is 192006250b4c")
    answer = await till.client.post(CREATE, json=TEA)
    error = await refusal(answer, 500, "INTERNAL_ERROR")
    assert set(error) == {"code", "message", "request_id"}
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert error["request_id"] in record.getMessage()
    assert record.exc_info[0] is fault
    assert "192006250b4c" not in await answer.text()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/api/wechat/pay/query/", 404, "NOT_FOUND"),
        ("GET", "/api/wechat/pay/query/a/b", 404, "NOT_FOUND"),
        ("GET", "/api/wechat/pay/../../etc/passwd", 404, "NOT_FOUND"),
        ("GET", CREATE, 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", STATS, 405, "METHOD_NOT_ALLOWED"),
        ("OPTIONS", CREATE, 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_what_is_no_call_of_ours_is_refused_in_the_same_words(served, method, path, status, code):
    till = await served()
    answer = await till.client.request(method, path)
    await refusal(answer, status, code)
    if status == 405:
        assert ("POST" if path == CREATE else "GET") in answer.headers["Allow"]


async def test_every_answer_says_that_it_is_not_to_be_kept_or_guessed_at(served):
    till = await served()
    for answer in (await till.client.get(STATS), await till.client.get("/nowhere")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Server"] == "minitill"


async def test_where_get_is_answered_head_is_too(served):
    till = await served()
    answer = await till.client.head(STATS)
    assert (answer.status, await answer.read()) == (200, b"")


# -- who may ---------------------------------------------------------------------------------


def routed(who):
    async def handler(_call):
        return HealthAnswer()

    scope = Scope.READ if Who.BACKEND in who else None
    return Route(
        method="GET", path="/x", who=who, scope=scope, handler=handler, summary="x", answer=HealthAnswer
    )


def test_a_route_that_does_not_say_who_may_call_cannot_be_made():
    for kind, more in ((Route, {"answer": HealthAnswer}), (PlainRoute, {})):
        words = {"method": "GET", "path": "/x", "handler": taken, "summary": "x"} | more
        with pytest.raises(TypeError):
            kind(**words)
        with pytest.raises(ValueError, match="who may call"):
            kind(**words, who=Who(0))


def test_an_open_route_is_open_to_all_and_says_nothing_else():
    with pytest.raises(ValueError, match="who may call"):
        routed(Who.ANYONE | Who.OPERATOR)
    assert [routed(who).is_open for who in Who] == [False, False, False, True, True]


def test_a_path_whose_names_no_shape_explains_cannot_be_made():
    with pytest.raises(ValueError, match="out_trade_no"):
        Route(
            method="GET",
            path="/x/{out_trade_no}",
            who=Who.ANYONE,
            handler=taken,
            summary="x",
            answer=HealthAnswer,
        )


async def test_the_guard_is_asked_before_anything_is_read_but_never_on_open_routes(served):
    """R22: WeChat's notifications are never asked for a login."""
    asked = []

    async def nobody(_request, route):
        asked.append(route.path)
        raise StoreUnavailable("not now")

    till = await served(plain(taken), routed(Who.ANYONE), guard=nobody)
    await refusal(await till.client.post(CREATE, data=b"{"), 503, "STORE_UNAVAILABLE")
    await refusal(await till.client.get(STATS), 503, "STORE_UNAVAILABLE")
    assert (await till.client.post("/notify", data=b"<xml/>")).status == 200
    assert (await till.client.get("/x")).status == 200
    assert asked == [CREATE, STATS]


async def test_who_calls_is_written_into_the_history_and_the_log(served, lines):
    async def shop(_request, _route):
        return Caller(kind=Who.BACKEND, name="shop")

    till = await served(guard=shop)
    await till.create()
    assert [event.cause for event in till.store.events] == ["api shop"]
    assert "caller=shop" in lines()[-1]


# -- routes that answer in their own words -----------------------------------------------------


async def test_a_plain_route_answers_as_it_likes(served):
    till = await served(plain(taken))
    answer = await till.client.post("/notify")
    assert (await answer.text(), answer.content_type) == ("<xml>OK</xml>", "text/xml")
    assert answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (RuntimeError("secret"), 500, "系统繁忙，请稍后再试。"),
        (StoreUnavailable("secret"), 503, "服务暂不可用，请稍后再试。"),
        (Busy("secret"), 503, "操作过于频繁，请稍后再试。"),
        (web.HTTPBadRequest(text="FAIL"), 400, "FAIL"),
        (web.HTTPFound("/console"), 302, "302: Found"),
    ],
)
async def test_the_errors_of_a_plain_route_are_no_json(served, lines, error, status, text):
    async def handler(_request):
        raise error

    till = await served(plain(handler))
    answer = await till.client.post("/notify", allow_redirects=False)
    assert (answer.status, await answer.text(), answer.content_type) == (status, text, "text/plain")
    assert answer.headers["X-Request-Id"]
    assert f"POST /notify {status} " in lines()[-1]


async def test_a_stream_carries_its_request_id_too(served):
    async def handler(request):
        stream = web.StreamResponse()
        await stream.prepare(request)
        await stream.write(b"data: 1\n\n")
        return stream

    till = await served(plain(handler), origins=[PAGE])
    answer = await till.client.post("/notify", headers={"Origin": PAGE})
    assert answer.headers["X-Request-Id"]
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE


# -- other origins ---------------------------------------------------------------------------


def cors(answer):
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control")}


async def test_no_page_may_call_unless_the_settings_say_so(served):
    till = await served()
    answer = await till.client.options(CREATE, headers=PREFLIGHT)
    await refusal(answer, 405, "METHOD_NOT_ALLOWED")
    assert cors(answer) == {}
    assert cors(await till.client.get(STATS, headers={"Origin": PAGE})) == {}


async def test_a_page_that_may_call_is_told_so(served):
    till = await served(origins=[PAGE])
    answer = await till.client.options(CREATE, headers=PREFLIGHT)
    assert answer.status == 204
    assert cors(answer) == {
        "Access-Control-Allow-Origin": PAGE,
        "Access-Control-Allow-Methods": "POST",
        "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, X-Request-Id",
        "Access-Control-Max-Age": "600",
        "Access-Control-Expose-Headers": "Retry-After, X-Request-Id",
    }
    for path in (STATS, "/nowhere"):  # a page may read what went wrong
        answer = await till.client.get(path, headers={"Origin": PAGE})
        assert cors(answer)["Access-Control-Allow-Origin"] == PAGE
        assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://shop.example.evil", "http://shop.example", "null", ""])
async def test_any_other_page_may_not(served, origin):
    till = await served(origins=[PAGE])
    answer = await till.client.options(CREATE, headers=PREFLIGHT | {"Origin": origin})
    assert (answer.status, cors(answer)) == (405, {})
    answer = await till.client.get(STATS, headers={"Origin": origin})
    assert (cors(answer), answer.headers["Vary"]) == ({}, "Origin")


@pytest.mark.parametrize("method", ["DELETE", "GET", ""])
async def test_a_method_that_a_path_has_not_is_not_promised(served, method):
    till = await served(origins=[PAGE])
    answer = await till.client.options(CREATE, headers=PREFLIGHT | {"Access-Control-Request-Method": method})
    assert answer.status == 405


async def test_all_pages_may_call_but_never_with_a_browsers_credentials(served):
    till = await served(origins=["*"])
    answer = await till.client.options(CREATE, headers=PREFLIGHT)
    assert cors(answer)["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
