"""The shop's backend over real HTTP: what it hears, what counts as heard, what is kept of its answer."""

import asyncio
import json
import logging
import ssl
from datetime import timedelta, timezone
from unittest.mock import AsyncMock

import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import unused_port
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook, WebhookVerificationError

from adapters import webhook
from adapters.webhook import ShopBackend
from application.courier import ROUND_MAX
from tests.webhook_shop import EVENT, NEW, NOW, OLD, Names, Shop, abort, secret_of


@pytest.fixture
def shop(runner):
    shop = runner.run(Shop().open())
    yield shop
    runner.run(shop.close())


# -- what the shop hears -------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [NEW, OLD])
async def test_the_shop_can_verify_what_it_hears_with_either_secret(shop, secret):
    assert (await shop.backend().hear(EVENT, NOW)).heard
    [(method, path, headers, body)] = shop.heard
    assert (method, path) == ("POST", "/hooks/minitill?key=u-42")
    assert headers["Content-Type"] == "application/json"
    assert Webhook(secret).verify(body, dict(headers)) == {
        "type": "order.paid",
        "timestamp": "2024-01-02T03:04:05.678901Z",
        "data": {**EVENT.facts, "version": 2},
    }


async def test_a_shop_with_another_secret_does_not_believe_it(shop):
    await shop.backend().hear(EVENT, NOW)
    [(_, _, headers, body)] = shop.heard
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_of(32, b"x")).verify(body, dict(headers))


async def test_the_newest_secret_signs_first(shop):
    backend = shop.backend()
    await backend.hear(EVENT, NOW)
    [(_, _, headers, body)] = shop.heard
    text = body.decode()
    assert headers["webhook-signature"].split(" ") == [
        Webhook(secret).sign(EVENT.id, NOW, text) for secret in (NEW, OLD)
    ]


async def test_the_very_bytes_that_were_signed_are_sent(shop):
    await shop.backend().hear(EVENT, NOW)
    [(_, _, headers, body)] = shop.heard
    assert body == webhook.message(EVENT).encode("ascii")
    assert body.startswith(b'{"type":"order.paid","timestamp":"2024-01-02T03:04:05.678901Z","data":{"out_')
    assert int(headers["Content-Length"]) == len(body)
    assert "Content-Encoding" not in headers


async def test_the_id_stays_and_the_time_stamp_moves_from_try_to_try(shop):
    backend = shop.backend()
    later = (NOW + timedelta(seconds=90)).astimezone(timezone(timedelta(hours=8)))
    for at in (NOW, later):
        delivery = await backend.hear(EVENT, at)
        assert (delivery.event_id, delivery.at) == ("PAY17040000001234567890-2", at)
    (_, _, first, body), (_, _, second, again) = shop.heard
    assert first["webhook-id"] == second["webhook-id"] == EVENT.id
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 90
    assert first["webhook-signature"] != second["webhook-signature"]
    assert body == again
    Webhook(NEW).verify(again, dict(second))


async def test_a_moment_of_another_zone_is_told_in_utc(shop):
    at = EVENT.at.replace(microsecond=0).astimezone(timezone(timedelta(hours=8)))
    await shop.backend().hear(evolve(EVENT, at=at), NOW)
    assert json.loads(shop.heard[0][3])["timestamp"] == "2024-01-02T03:04:05Z"


async def test_letters_share_a_connection(shop):
    backend = shop.backend()
    for _ in range(3):
        assert (await backend.hear(EVENT, NOW)).heard
    assert len(shop.connections) == 1


async def test_a_whole_round_is_told_at_once(shop):
    everybody = asyncio.Barrier(ROUND_MAX)

    async def together(_request):
        await everybody.wait()
        return web.Response()

    shop.answer = together
    backend = shop.backend(limit_seconds=5)
    deliveries = await asyncio.gather(
        *(backend.hear(evolve(EVENT, version=n), NOW) for n in range(ROUND_MAX))
    )
    assert {delivery.heard for delivery in deliveries} == {True}


async def test_the_proxies_of_the_environment_are_not_trusted(shop, monkeypatch):
    backend = shop.backend()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert (await backend.hear(EVENT, NOW)).heard


# -- what counts as heard ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_heard(shop, status):
    shop.answer = lambda _: web.Response(status=status)
    delivery = await shop.backend().hear(EVENT, NOW)
    assert (delivery.heard, delivery.status, delivery.error) == (True, status, "")


@pytest.mark.parametrize("status", [304, 400, 401, 404, 410, 429, 500, 503])
async def test_any_other_status_is_not_heard(shop, status):
    shop.answer = lambda _: web.Response(status=status, text="" if status == 304 else "not now")
    delivery = await shop.backend().hear(EVENT, NOW)
    assert (delivery.heard, delivery.status) == (False, status)
    assert delivery.answer == ("" if status == 304 else "not now")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(shop, status):
    shop.answer = lambda _: web.Response(status=status, headers={"Location": "/elsewhere"})
    delivery = await shop.backend().hear(EVENT, NOW)
    assert (delivery.heard, delivery.status) == (False, status)
    assert delivery.error == "redirects are not followed"
    assert len(shop.heard) == 1


async def test_a_shop_that_is_too_slow_is_not_heard(shop):
    enough = asyncio.Event()

    async def slow(_request):
        await enough.wait()
        return web.Response()

    shop.answer = slow
    async with asyncio.timeout(5):
        delivery = await shop.backend(limit_seconds=0.05).hear(EVENT, NOW)
    assert (delivery.heard, delivery.status) == (False, None)
    assert delivery.error == "no answer within 0.05 s"
    enough.set()


async def test_a_name_server_that_is_too_slow_is_not_waited_for(shop):
    backend = shop.backend(shop.url("shop.example"), limit_seconds=0.05, resolver=Names([None]))
    assert (await backend.hear(EVENT, NOW)).error == "no answer within 0.05 s"


async def test_a_yes_whose_text_breaks_off_is_a_yes(shop):
    async def half(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write("茶".encode())
        request.transport.abort()
        return response

    shop.answer = half
    delivery = await shop.backend().hear(EVENT, NOW)
    assert (delivery.heard, delivery.status, delivery.answer, delivery.error) == (True, 200, "茶", "")


@pytest.mark.parametrize("failure", [TimeoutError(), ClientPayloadError()])
async def test_an_answer_is_kept_as_far_as_it_came(failure):
    class Stream:
        read = AsyncMock(side_effect=[b"so ", b"far", failure])

    assert await webhook._first_bytes(Stream()) == b"so far"


async def test_a_connection_that_breaks_is_not_heard(shop):
    shop.answer = abort
    delivery = await shop.backend().hear(EVENT, NOW)
    assert (delivery.heard, delivery.status) == (False, None)
    assert delivery.error == "the connection with the shop broke"


async def test_a_shop_that_is_down_is_not_heard(shop):
    backend = shop.backend(f"http://127.0.0.1:{unused_port()}/")
    assert (await backend.hear(EVENT, NOW)).error == "no connection with the shop"


@pytest.mark.parametrize("answer", [OSError("no such name"), []])
async def test_a_name_that_leads_nowhere_is_not_heard(shop, answer):
    backend = shop.backend("https://shop.example/", allow_private=False, resolver=Names([answer]))
    assert (await backend.hear(EVENT, NOW)).error == "the shop's host name was not found"


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 2OO OK\r\n\r\n", b"\x15\x03\x01\0"]
)
async def test_what_is_not_http_is_not_heard(shop, answer):
    async def talk(reader, writer):
        await reader.readuntil(b"}}")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        delivery = await shop.backend(f"http://127.0.0.1:{port}/").hear(EVENT, NOW)
    assert (delivery.heard, delivery.status) == (False, None)
    assert delivery.error == "what the shop answered is not HTTP"


async def test_a_shop_whose_certificate_nobody_vouches_for_is_not_told(tmp_path):
    shop = await Shop().open(self_signed(tmp_path / "shop.pem"))
    delivery = await shop.backend(shop.url("localhost")).hear(EVENT, NOW)
    await shop.close()
    assert not delivery.heard
    assert delivery.error == "the shop's certificate is not trusted"
    assert shop.heard == []


def self_signed(path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def test_nobody_is_told_anything_after_the_close(shop):
    backend = shop.backend()
    await backend.hear(EVENT, NOW)
    await backend.close()
    delivery = await backend.hear(EVENT, NOW)
    assert (delivery.heard, delivery.error) == (False, "minitill is stopping")
    assert len(shop.heard) == 1


async def test_a_close_in_the_middle_of_a_try_ends_it_as_not_heard(shop):
    backend = shop.backend()
    arrived, enough = asyncio.Event(), asyncio.Event()

    async def slow(_request):
        arrived.set()
        await enough.wait()
        return web.Response()

    shop.answer = slow
    trying = asyncio.ensure_future(backend.hear(EVENT, NOW))
    await arrived.wait()
    await backend.close()
    assert (await trying).error == "the connection with the shop broke"
    enough.set()


# -- what is kept of the answer ------------------------------------------------------------------


async def test_an_endless_answer_is_not_read_whole(shop):
    broke = asyncio.Event()

    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
        finally:
            broke.set()

    shop.answer = endless
    delivery = await shop.backend().hear(EVENT, NOW)
    await broke.wait()
    assert delivery.heard
    assert delivery.answer == "x" * 1024


async def test_an_answer_is_kept_as_text_that_upsets_no_terminal(shop):
    shop.answer = lambda _: web.Response(body=b"\x1b[31m\xff\x00caf\xc3\xa9\r\n\xe2\x80\xae\xe8\x8c\xb6")
    assert (await shop.backend().hear(EVENT, NOW)).answer == "[31m\ufffdcafé茶"


async def test_a_character_cut_by_the_bound_is_replaced(shop):
    shop.answer = lambda _: web.Response(body=b"x" * 1022 + "茶".encode())
    assert (await shop.backend().hear(EVENT, NOW)).answer == "x" * 1022 + "\ufffd"


async def test_an_answer_is_never_unpacked(shop):
    shop.answer = lambda _: web.Response(body=b"plain", headers={"Content-Encoding": "gzip"})
    delivery = await shop.backend().hear(EVENT, NOW)
    assert (delivery.heard, delivery.answer) == (True, "plain")


async def test_how_long_a_try_took_is_kept(shop):
    readings = iter([5.0, 5.2504])
    backend = shop.backend(monotonic=lambda: next(readings))
    assert (await backend.hear(EVENT, NOW)).milliseconds == 250


# -- the secrets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [secret_of(24), secret_of(25).rstrip("="), secret_of(64)])
def test_a_secret_of_24_to_64_bytes_will_do(secret):
    ShopBackend(url="https://shop.example/", secrets=[secret])


@pytest.mark.parametrize(
    "secret",
    [
        secret_of(23),
        secret_of(65),
        secret_of(32).removeprefix("whsec_"),
        secret_of(32) + "!",
        secret_of(32) + "====",
        " " + secret_of(32),
        secret_of(32) + "\n",
        "whsec_" + "密" * 32,
        "whsec_",
        "a password of a good length, but no more",
    ],
)
def test_any_other_secret_is_refused_and_not_shown(secret):
    with pytest.raises(ValueError, match=r"webhook secret 2 of 2 must be whsec_ and then") as caught:
        ShopBackend(url="https://shop.example/", secrets=[NEW, secret])
    told = f"{caught.value!r} {caught.value.__cause__}"
    assert secret == "whsec_" or secret not in told
    assert NEW not in told


@pytest.mark.parametrize("secrets", [[], ()])
def test_a_shop_without_a_secret_is_not_told_anything(secrets):
    with pytest.raises(ValueError, match="needs a secret"):
        ShopBackend(url="https://shop.example/", secrets=secrets)


def test_a_limit_of_no_time_at_all_is_refused():
    with pytest.raises(ValueError, match="limit_seconds"):
        ShopBackend(url="https://shop.example/", secrets=[NEW], limit_seconds=0)


async def test_secrets_are_in_no_repr_error_or_log_line(shop, caplog):
    backend = shop.backend()
    caplog.set_level(logging.DEBUG)
    deliveries = [await backend.hear(EVENT, NOW)]
    shop.answer = abort
    deliveries.append(await backend.hear(EVENT, NOW))
    nowhere = shop.backend(f"http://127.0.0.1:{unused_port()}/?key=u-42")
    deliveries.append(await nowhere.hear(EVENT, NOW))
    told = f"{backend!r} {nowhere!r} {deliveries!r} {caplog.text}"
    for secret in (NEW, OLD):
        assert secret.removeprefix("whsec_") not in told
    assert "u-42" not in told
