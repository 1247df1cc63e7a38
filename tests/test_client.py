"""The line to WeChat: exact bytes both ways, limits on time and size, and "unknown" when nobody can tell."""

import asyncio
import gzip
import ssl
from datetime import timedelta
from email.utils import format_datetime

import aiohttp
import pytest
from aiohttp import web

from adapters.wechat.client import ANSWER_BYTES_MAX, PAUSES, Client, RawAnswer
from adapters.wechat.errors import Passing
from adapters.wechat.simulator.certificates import make_certificate, make_key, private_pem
from application.ports import Unknown
from tests.wechat_side import NOW, WechatSide, cut

NOWHERE = "http://127.0.0.1:1"  # a port that nobody listens on


@pytest.fixture
def wechat(runner):
    side = runner.run(WechatSide().start())
    yield side
    runner.run(side.stop())


@pytest.fixture
def backup(runner):
    side = runner.run(WechatSide().start())
    yield side
    runner.run(side.stop())


@pytest.fixture
def line(runner, wechat):
    """Make a client; it is closed when the test ends."""
    made = []

    def make(base_url=wechat.url, backup_url="", **settings):
        naps = []

        async def nap(seconds):
            naps.append(seconds)

        client = Client(
            **{"clock": lambda: NOW, "sleep": nap, "monotonic": lambda: 0.0, **settings},
            base_url=base_url,
            backup_url=backup_url,
        )
        made.append(client)
        return client, naps

    yield make
    for client in made:
        runner.run(client.close())


async def test_exactly_these_bytes_go_out_and_come_back(line, wechat):
    """R3: path, query and body travel as they were signed, percent-encoding included."""
    client, _ = line()
    wechat.says(web.Response(body=b"\xff\x00 anything\n", headers={"Request-ID": "08F7-0"}))
    target = "/v3/x/a%2Fb%7Cc%2a?mchid=1&q=%E5%8D%88+%20"
    answer = await client.send("POST", target, b'{"a": 1}\n', {"Authorization": "WECHATPAY2 x"})
    (heard,) = wechat.heard
    assert (heard.method, heard.target, heard.body) == ("POST", target, b'{"a": 1}\n')
    assert heard.headers["Authorization"] == "WECHATPAY2 x"
    assert heard.headers["User-Agent"].startswith("minitill/")
    assert (answer.status, answer.body, answer.request_id) == (200, b"\xff\x00 anything\n", "08F7-0")
    assert "anything" not in repr(answer)


async def test_connections_are_kept_and_shared(line, wechat):
    client, _ = line()
    peers = []

    async def remember(request):
        peers.append(request.transport.get_extra_info("peername"))
        return web.Response()

    wechat.says(remember, remember)
    await client.send("GET", "/a")
    await client.send("POST", "/b", b"x")
    assert len(set(peers)) == 1


# -- the second host -----------------------------------------------------------------------------


async def test_the_backup_host_gets_the_same_bytes_when_the_first_is_not_there(line, backup):
    """R13; the host is not signed, so the same Authorization will do (v3.md section 2)."""
    client, _ = line(NOWHERE, backup.url)
    backup.says(b"first", b"second")
    answer = await client.send("POST", "/pay", b"body", {"Authorization": "signed", "User-Agent": "till"})
    assert answer.body == b"first"
    assert backup.heard[0].body == b"body"
    assert backup.heard[0].headers["Authorization"] == "signed"
    assert backup.heard[0].headers["User-Agent"] == "till (Retried-V1)"
    await client.send("POST", "/pay", b"body", {"User-Agent": "till"})
    assert backup.heard[1].headers["User-Agent"] == "till", "the host that serves us comes first from now on"


async def test_a_failed_tls_handshake_sends_nothing_so_the_backup_host_is_asked(line, wechat, backup):
    client, _ = line(wechat.url.replace("http:", "https:"), backup.url)
    backup.says(b"fine")
    assert (await client.send("GET", "/pay")).body == b"fine"
    assert wechat.heard == []


async def test_a_name_that_does_not_resolve_sends_nothing_so_the_backup_host_is_asked(
    line, backup, monkeypatch
):
    async def no_such_name(*_arguments, **_options):
        raise OSError("no such name")

    monkeypatch.setattr(aiohttp.connector.DefaultResolver, "resolve", no_such_name)
    client, _ = line("http://api.wechat.example", backup.url)
    backup.says(b"fine")
    assert (await client.send("GET", "/pay")).body == b"fine"


async def test_a_connection_that_takes_too_long_sends_nothing(line, monkeypatch):
    async def too_long(*_arguments, **_options):
        raise TimeoutError

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", too_long)
    client, _ = line(NOWHERE, "http://127.0.0.1:2")
    answer = await client.send("GET", "/pay")
    assert isinstance(answer, Passing)
    assert "http://127.0.0.1:2" in answer.why, "both hosts were tried"


async def test_when_no_host_is_there_the_outcome_is_unknown(line):
    client, _ = line(NOWHERE, "http://127.0.0.1:2")
    assert isinstance(await client.send("GET", "/pay"), Passing)


async def test_a_host_that_says_503_is_not_asked_first_the_next_time(line, wechat, backup):
    """v3.md section 10: repeat, on the backup host."""
    client, _ = line(wechat.url, backup.url)
    wechat.says(web.Response(status=503))
    backup.says(b"fine")
    assert (await client.send("GET", "/a")).status == 503
    assert (await client.send("GET", "/a")).body == b"fine"


# -- what nobody can tell ------------------------------------------------------------------------


async def test_silence_is_unknown_and_is_not_carried_to_the_backup_host(line, wechat, backup):
    """R13: a read time-out leaves the outcome unknown."""
    client, _ = line(wechat.url, backup.url, read_seconds=0.05)
    done = asyncio.Event()

    async def say_nothing(_request):
        await done.wait()
        return web.Response()

    wechat.says(say_nothing)
    answer = await client.send("POST", "/secapi/pay/refund", b"x")
    done.set()
    assert isinstance(answer, Unknown)
    assert "in time" in answer.why
    assert (len(wechat.heard), backup.heard) == (1, [])


async def test_every_call_has_limits_and_one_may_wait_longer(line, wechat, monkeypatch):
    """R13: in seconds, to connect, to read, and over all."""
    given = []
    request = aiohttp.ClientSession.request

    def remember(session, *arguments, timeout, **options):
        given.append((timeout.sock_connect, timeout.sock_read, timeout.total))
        return request(session, *arguments, timeout=timeout, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "request", remember)
    client, _ = line(connect_seconds=3, read_seconds=7)
    wechat.says(b"", b"")
    await client.send("GET", "/")
    await client.send("POST", "/refund", b"x", read_seconds=15)
    assert given == [(3, 7, 10), (3, 15, 18)]


async def test_a_cut_connection_is_unknown_and_is_not_carried_to_the_backup_host(line, wechat, backup):
    """R13."""
    client, _ = line(wechat.url, backup.url)
    wechat.says(cut)
    answer = await client.send("POST", "/pay", b"x")
    assert isinstance(answer, Passing)
    assert (len(wechat.heard), backup.heard) == (1, [])


async def test_half_an_answer_is_unknown(line, wechat):
    client, _ = line()

    async def break_off(request):
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        request.transport.abort()
        return response

    wechat.says(break_off)
    assert isinstance(await client.send("GET", "/"), Passing)


async def test_what_is_not_http_is_unknown(line):
    async def babble(reader, writer):
        await reader.read(1)
        writer.write(b"\x00\x01 not http at all\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client, _ = line(f"http://127.0.0.1:{port}")
        assert isinstance(await client.send("GET", "/"), Unknown)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(line, wechat, status):
    client, _ = line()
    wechat.says(web.Response(status=status, headers={"Location": "/elsewhere"}), b"stolen")
    assert (await client.send("POST", "/pay", b"x")).status == status
    assert len(wechat.heard) == 1


async def test_an_answer_may_be_a_megabyte(line, wechat):
    client, _ = line()
    wechat.says(bytes(ANSWER_BYTES_MAX))
    assert len((await client.send("GET", "/")).body) == ANSWER_BYTES_MAX


async def test_an_answer_of_more_than_a_megabyte_is_given_up(line, wechat):
    client, _ = line()
    wechat.says(bytes(ANSWER_BYTES_MAX + 1))
    assert isinstance(await client.send("GET", "/"), Unknown)


async def test_an_endless_answer_is_given_up(line, wechat):
    client, _ = line()

    async def never_stop(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with pytest.raises(ConnectionError):
            while True:
                await response.write(bytes(64 * 1024))
        return response

    wechat.says(never_stop)
    answer = await client.send("GET", "/")
    assert isinstance(answer, Unknown)
    assert not isinstance(answer, Passing)


async def test_a_compressed_answer_is_not_inflated(line, wechat):
    """Nobody asked for compression; a bomb stays as small as it came."""
    client, _ = line()
    bomb = gzip.compress(bytes(50 * ANSWER_BYTES_MAX))
    wechat.says(web.Response(body=bomb, headers={"Content-Encoding": "gzip"}))
    assert (await client.send("GET", "/")).body == bomb
    assert wechat.heard[0].headers["Accept-Encoding"] == "identity"


async def test_a_closed_line_answers_unknown(line):
    client, _ = line()
    await client.close()
    assert isinstance(await client.send("GET", "/"), Unknown)


# -- repeating -----------------------------------------------------------------------------------


def answers(*given):
    left = list(given)

    async def once():
        return left.pop(0)

    return once, left


async def test_a_harmless_call_is_repeated_while_its_trouble_may_pass(line):
    """R13, R49: bounded, and slower each time."""
    client, naps = line()
    once, left = answers(Passing(why="a"), Passing(why="b"), "good", "never asked")
    assert await client.repeat(once) == "good"
    assert (naps, left) == (list(PAUSES), ["never asked"])


async def test_a_harmless_call_is_given_up_after_three_tries(line):
    client, _ = line()
    once, left = answers(*(Passing(why=str(n)) for n in range(4)))
    assert (await client.repeat(once)).why == "2"
    assert len(left) == 1


@pytest.mark.parametrize("answer", [Unknown(why="forged"), RawAnswer(200, {}, b"")])
async def test_what_a_repeat_would_not_mend_is_not_repeated(line, answer):
    client, naps = line()
    once, _ = answers(answer)
    assert await client.repeat(once) is answer
    assert naps == []


async def test_nobody_waits_for_a_repeat_after_a_time_out(line):
    """R13: the read limit is the limit of all tries together to begin."""
    moments = iter([0.0, 10.1])
    client, naps = line(monotonic=lambda: next(moments), read_seconds=10)
    once, _ = answers(Passing(why="no answer in time"))
    assert (await client.repeat(once)).why == "no answer in time"
    assert naps == []


# -- the clock -----------------------------------------------------------------------------------


async def test_the_skew_of_our_clock_is_measured_and_alarmed_once(line, wechat, caplog):
    """R5: by the Date header, well before five minutes."""
    client, _ = line()
    behind = web.Response(headers={"Date": format_datetime(NOW - timedelta(seconds=90))})
    wechat.says(behind, web.Response(headers={"Date": format_datetime(NOW - timedelta(seconds=95))}))
    await client.send("GET", "/")
    assert client.skew_seconds == 90
    await client.send("GET", "/")
    assert client.skew_seconds == 95
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "+90 s" in caplog.text


async def test_the_signed_timestamp_counts_more_than_the_date(line, wechat, caplog):
    """R5."""
    client, _ = line()
    stamp = str(int(NOW.timestamp()) + 30)
    wechat.says(web.Response(headers={"Date": "long ago", "Wechatpay-Timestamp": stamp}))
    await client.send("GET", "/")
    assert client.skew_seconds == -30
    assert caplog.records == []


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 20024 25:61:00 GMT"])
async def test_a_date_nobody_can_read_changes_nothing(line, wechat, date):
    client, _ = line()
    wechat.says(web.Response(headers={"Date": date}))
    await client.send("GET", "/")
    assert client.skew_seconds == 0


# -- mutual TLS ----------------------------------------------------------------------------------


async def test_v2_refunds_show_the_merchants_certificate(line, tmp_path):
    """v2.md section 1: the client certificate on /secapi paths, and on no other."""
    key_file, certificate_file = tmp_path / "key.pem", tmp_path / "certificate.pem"
    key = make_key()
    key_file.write_bytes(private_pem(key))
    certificate_file.write_bytes(make_certificate(key, "localhost", NOW))
    shown = []

    async def look(request):
        shown.append(request.transport.get_extra_info("peercert"))
        return web.Response(body=b"fine")

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate_file)
    tls.load_cert_chain(certificate_file, key_file)
    tls.verify_mode = ssl.CERT_OPTIONAL
    app = web.Application()
    app.router.add_post("/secapi/pay/refund", look)
    serving = web.AppRunner(app)
    await serving.setup()
    site = web.TCPSite(serving, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    client, _ = line(f"https://localhost:{port}", certificate=(certificate_file, key_file))
    client._mutual_tls.load_verify_locations(certificate_file)
    answer = await client.send("POST", "/secapi/pay/refund", b"x", mutual_tls=True)
    other = await client.send("POST", "/secapi/pay/refund", b"x")
    await serving.cleanup()
    assert answer.body == b"fine"
    assert dict(pair[0] for pair in shown[0]["subject"])["commonName"] == "localhost"
    assert isinstance(other, Unknown), "the other context trusts public authorities only"
