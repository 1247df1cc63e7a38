"""What one connection may take: how much it sends, how long it needs, and how many there are."""

import asyncio
import json

import pytest

from adapters.http.line import FIELDS_MAX, HEAD_BYTES_MAX, LINE_OPTIONS, URL_BYTES_MAX
from tests.http_till import CREATE, TEA
from tests.open_line import OpenLine, refused

HELLO = "GET /api/wechat/pay/stats HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = json.dumps(TEA, ensure_ascii=True)
POST = (
    f"POST {CREATE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n"
)
SHORT = 0.05  # seconds


@pytest.fixture
def served(runner):
    lines = []

    async def open_line(**limits):
        lines.append(await OpenLine().open(**limits))
        return lines[-1]

    yield open_line
    for line in lines:
        runner.run(line.close())


# -- how much --------------------------------------------------------------------------------


async def test_a_url_may_be_long_but_not_endless(served):
    line = await served()
    fits = URL_BYTES_MAX - len("/?")
    assert (await line.hears(HELLO.replace("stats", "stats?" + "x" * 3000))).status == 200
    refused(await line.hears(f"GET /{'x' * fits} HTTP/1.1\r\nHost: x\r\n\r\n"), 404, "NOT_FOUND")
    refused(await line.hears(f"GET /{'x' * 2 * fits} HTTP/1.1\r\nHost: x\r\n\r\n"), 414, "URL_TOO_LONG")


@pytest.mark.parametrize(
    "more",
    ["X: " + "y" * 9000, "X" * 9000 + ": y", "\r\n".join(f"X-{n}: {'y' * 900}" for n in range(99))],
    ids=["value", "name", "together"],
)
async def test_headers_may_not_be_endless(served, more):
    line = await served()
    caller = await line.call()
    text = HELLO.replace("Host: x", f"Host: x\r\n{more}")
    for start in range(0, len(text), 1000):  # as it would come over a slow network
        caller.send(text[start : start + 1000])
        await caller.writer.drain()
    refused(await caller.answer(), 431, "HEADERS_TOO_LARGE")
    assert await caller.is_hung_up_on()


async def test_so_many_headers_are_not_read(served):
    line = await served()
    many = "\r\n".join(f"X-{n}: y" for n in range(FIELDS_MAX + 1))
    answer = await line.hears(HELLO.replace("Host: x", f"Host: x\r\n{many}"))
    assert answer.status in {400, 431}


async def test_a_head_that_never_ends_is_cut_where_the_limit_is(served):
    line = await served(head_bytes_max=500)
    caller = await line.call()
    caller.send("GET / HTTP/1.1\r\nHost: x\r\n")
    caller.send("X-More: yyyyyyyy\r\n" * 60)
    refused(await caller.answer(), 431, "HEADERS_TOO_LARGE")
    assert await caller.is_hung_up_on()
    assert LINE_OPTIONS["max_field_size"] <= HEAD_BYTES_MAX


async def test_a_body_does_not_count_as_a_head(served):
    line = await served(head_bytes_max=300, head_seconds=SHORT)
    caller = await line.call()
    caller.send(POST)
    for letter in BODY:
        caller.send(letter)
        await caller.writer.drain()
    assert (await caller.answer()).status == 200
    assert (await caller.hears(HELLO)).status == 200


# -- how long --------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", ["G", "GET / HTTP/1.1\r\n", HELLO[:-2]])
async def test_whoever_stalls_in_the_head_is_hung_up_on_with_a_word(served, begun):
    line = await served(head_seconds=SHORT)
    caller = await line.call()
    refused(await caller.hears(begun), 408, "REQUEST_TIMEOUT")
    assert await caller.is_hung_up_on()


async def test_whoever_says_nothing_at_all_is_hung_up_on(served):
    line = await served(head_seconds=SHORT)
    caller = await line.call()
    assert await caller.is_hung_up_on()


async def test_the_second_request_on_a_line_may_not_stall_either(served):
    line = await served(head_seconds=SHORT)
    caller = await line.call()
    assert (await caller.hears(HELLO)).status == 200
    refused(await caller.hears("GET / HT"), 408, "REQUEST_TIMEOUT")


async def test_whoever_stalls_in_the_body_is_refused_and_nothing_comes_of_it(served):
    line = await served(body_seconds=SHORT)
    answer = await line.hears(POST + BODY[:20])
    refused(answer, 408, "REQUEST_TIMEOUT")
    assert (line.till.gateway.placed, line.till.store.rows) == ([], {})


async def test_a_kept_line_without_a_request_is_closed(served):
    line = await served(options={**LINE_OPTIONS, "keepalive_timeout": SHORT})
    caller = await line.call()
    assert (await caller.hears(HELLO)).status == 200
    assert await caller.is_hung_up_on()


# -- how many --------------------------------------------------------------------------------


async def test_one_connection_too_many_is_told_to_come_back(served):
    line = await served(lines_max=2)
    first, second = await line.call(), await line.call()
    assert (await first.hears(HELLO)).status == 200
    assert (await second.hears(HELLO)).status == 200
    third = await line.call()
    answer = await third.answer()
    refused(answer, 503, "TOO_MANY_CONNECTIONS")
    assert answer.headers["Retry-After"] == "5"
    assert await third.is_hung_up_on()
    assert (await first.hears(HELLO)).status == 200


async def test_who_hangs_up_makes_room(served):
    line = await served(lines_max=1)
    first = await line.call()
    assert (await first.hears(HELLO)).status == 200
    first.writer.close()
    await first.writer.wait_closed()
    while line.door.lines:  # noqa: ASYNC110 - the server sees it in one of the next turns
        await asyncio.sleep(0)
    assert (await line.hears(HELLO)).status == 200


# -- what is not HTTP ------------------------------------------------------------------------

LENGTH, CHUNKED = "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"
SMUGGLED = "POST / HTTP/1.1\r\nHost: x\r\n" + LENGTH + CHUNKED + "\r\n0\r\n\r\nX"


@pytest.mark.parametrize(
    "text",
    [
        SMUGGLED,
        SMUGGLED.replace(LENGTH, "").replace("chunked", "chunked, chunked"),
        SMUGGLED.replace(LENGTH, "").replace("chunked", "xchunked"),
        SMUGGLED.replace("Transfer-Encoding: chunked", "Content-Length: 6"),
        SMUGGLED.replace(CHUNKED, "").replace(": 5", ": +5"),
        SMUGGLED.replace("Content-Length: 5", "Content-Length : 5"),
        SMUGGLED.replace("Host: x", "Host: x\r\n folded: y"),
        HELLO.replace("Host: x", "Host: x\r\nX: a\x00b"),
        HELLO.replace("Host: x", "Host: x\r\nX: a\rb"),
        HELLO.replace("HTTP/1.1", "HTTP/9.9"),
        "G<T / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "k" * 40 + "\r\n\r\n",
        "mt_0123456789abcdef\r\n\r\n",
    ],
)  # fmt: skip
async def test_what_is_not_http_is_refused_and_never_quoted(served, caplog, text):
    """CL+TE and its kin: one reading, or none. The second request inside never happens."""
    line = await served()
    caller = await line.call()
    answer = await caller.hears(text + HELLO)
    refused(answer, 400, "BAD_REQUEST")
    assert await caller.is_hung_up_on()
    assert "mt_" not in caplog.text + answer.body.decode()
    assert "kkk" not in caplog.text + answer.body.decode()
    assert (line.till.gateway.placed, line.till.store.rows) == ([], {})
