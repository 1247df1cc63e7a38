"""https without a proxy: TLS 1.2 or newer, by files that are judged before the start."""

import asyncio
import ssl

import aiohttp
import pytest
from attrs import evolve

from entrypoints.faults import Faults
from entrypoints.till import Till, address_of, listen
from entrypoints.tls import tls_context
from tests.attacked_till import AttackedTill, QuietTill, account


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Settings that are right, without TLS."""

    async def settings():
        till = await AttackedTill.open(tmp_path_factory.mktemp("till"))
        await till.close()
        return till.till.settings

    return asyncio.run(settings())


def files():
    return str(account().file("tls_cert.pem")), str(account().own_file("tls_key.pem"))


def with_tls(settings, certificate, key):
    return evolve(settings, tls_cert=str(certificate), tls_key=str(key))


def faults_of(settings):
    with pytest.raises(Faults) as caught:
        tls_context(settings)
    return [str(fault) for fault in caught.value.faults]


def test_without_files_a_proxy_does_it(plain):
    assert tls_context(plain) is None


def test_nothing_older_than_tls_1_2_is_spoken(plain):
    context = tls_context(with_tls(plain, *files()))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_file_that_is_not_there_stops_the_start(plain, tmp_path):
    certificate, key = files()
    (line,) = faults_of(with_tls(plain, tmp_path / "none.pem", key))
    assert line.startswith("MINITILL_TLS_CERT: names a file that can't be read")
    (line,) = faults_of(with_tls(plain, certificate, tmp_path / "none.pem"))
    assert line.startswith("MINITILL_TLS_KEY: names a file that can't be read")


def test_files_that_will_not_do_stop_the_start(plain, tmp_path):
    certificate, key = files()
    (tmp_path / "empty.pem").write_text("")
    for one, other in (
        (certificate, account().file("apiclient_key.pem")),
        (certificate, tmp_path / "empty.pem"),
        (tmp_path / "empty.pem", key),
        (key, certificate),
    ):
        (line,) = faults_of(with_tls(plain, one, other))
        assert line.startswith("MINITILL_TLS_CERT")


async def test_wrong_files_stop_the_start_before_the_database_is_opened(plain, tmp_path):
    settings = evolve(
        with_tls(plain, tmp_path / "none.pem", tmp_path / "none.pem"),
        database=f"sqlite:///{tmp_path / 'minitill.db'}",
    )
    with pytest.raises(Faults):
        await Till.open(settings)
    assert not (tmp_path / "minitill.db").exists()


async def test_it_serves_https_and_nothing_else(plain, tmp_path):
    settings = evolve(with_tls(plain, *files()), database=f"sqlite:///{tmp_path / 'minitill.db'}")
    with listen("127.0.0.1", 0) as door:
        till = await QuietTill.open(settings)
        await till.start(door)
        url = address_of(door, "https")
        trusting = ssl.create_default_context(cafile=files()[0])
        trusting.check_hostname = False
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/healthz", ssl=trusting) as answer:
                assert (answer.status, answer.headers["Server"]) == (200, "minitill")
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"http://{url.partition('://')[2]}/healthz")
        await till.stop()
