"""WeChat's keys: downloaded, verified, kept, renewed, and never asked for more often than is fair."""

import asyncio
from datetime import datetime, timedelta

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from adapters.wechat.merchant import MerchantFault
from adapters.wechat.v3_wire import KeyRing, Rejected
from application.ports import Meaning, Refused, Unknown
from tests.wechat_side import (
    API_V3_KEY,
    DOCUMENT,
    NOW,
    PLATFORM_SERIAL,
    PUBLIC_KEY_ID,
    certificate_pem,
    lines,
    merchant,
    private_key,
    public_key_merchant,
    v3_error,
    v3_headers,
)
from tests.wechat_side import listed_certificates as listing

BODY = b'{"prepay_id":"wx1"}'
JAVA_SERIAL = DOCUMENT["keys"]["java_merchant"]["cert_serial"]  # plays the certificate that comes next
NEXT = {"serial": JAVA_SERIAL, "signer": "java_merchant"}


@pytest.fixture
def line(runner, tmp_path):
    yield from lines(runner, tmp_path)


def keep(line, *names):
    line.folder.mkdir(exist_ok=True)
    for name in names:
        (line.folder / f"{name}.pem").write_bytes(certificate_pem(name))


def forged_certificate():
    """Somebody else's key under the serial that we know."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenpay.com")])
    builder = x509.CertificateBuilder(name, name, private_key("java_wechatpay").public_key())
    builder = builder.serial_number(int(PLATFORM_SERIAL, 16)).not_valid_before(NOW)
    made = builder.not_valid_after(NOW + timedelta(days=9)).sign(private_key("java_wechatpay"), SHA256())
    return made.public_bytes(Encoding.PEM)


@pytest.fixture
def fresh(runner, line):
    """A line that holds no key of WeChat's yet."""
    return runner.run(line())


async def test_the_first_download_is_verified_with_what_it_brought(fresh):
    """v3.md section 5: AES-GCM under the APIv3 key, then the certificate just obtained."""
    fresh.wechat.says(listing("go_platform"))
    assert isinstance(await fresh.certificates.refresh(), KeyRing)
    (heard,) = fresh.wechat.heard
    assert (heard.method, heard.target) == ("GET", "/v3/certificates")
    assert "Wechatpay-Serial" not in heard.headers
    assert await fresh.certificates.check(v3_headers(BODY), BODY) == PLATFORM_SERIAL


async def test_a_restart_needs_no_network(fresh, line):
    fresh.wechat.says(listing("go_platform"))
    await fresh.certificates.refresh()
    assert [path.name for path in fresh.folder.iterdir()] == [f"{PLATFORM_SERIAL}.pem"]
    restarted = await line()
    assert await restarted.certificates.check(v3_headers(BODY), BODY) == PLATFORM_SERIAL
    assert restarted.wechat.heard == []


async def test_during_a_rotation_several_certificates_are_good(fresh):
    """R52: the newest is asked for, each message names its own."""
    fresh.wechat.says(listing("go_platform", "java_merchant"))
    await fresh.certificates.refresh()
    assert await fresh.certificates.check(v3_headers(BODY), BODY) == PLATFORM_SERIAL
    assert await fresh.certificates.check(v3_headers(BODY, **NEXT), BODY) == JAVA_SERIAL


async def test_an_expired_certificate_is_dropped(fresh):
    fresh.wechat.says(listing("go_platform"), listing("go_platform"))
    await fresh.certificates.refresh()
    fresh.now = datetime(2031, 4, 26, tzinfo=NOW.tzinfo)
    headers = v3_headers(BODY, at=fresh.now)
    with pytest.raises(Rejected, match="serial"):
        await fresh.certificates.check(headers, BODY)
    assert "Wechatpay-Serial" not in fresh.certificates.request_headers("GET", "/", b"")


@pytest.mark.parametrize(
    "answer",
    [
        lambda: listing("go_platform", api_v3_key="f" * 32),
        lambda: listing("go_platform", signer="java_wechatpay"),
        lambda: listing("go_platform", serial=JAVA_SERIAL),
        lambda: listing("go_platform", at=NOW - timedelta(seconds=300)),
        listing,
        lambda: web.json_response({"data": []}),
        lambda: web.Response(body=b"{}", headers=v3_headers(b"{}")),
        lambda: v3_error(401, "SIGN_ERROR"),
        lambda: v3_error(404, "RESOURCE_NOT_EXISTS"),
    ],
)
async def test_a_download_that_proves_nothing_changes_nothing(fresh, caplog, answer):
    """R23."""
    fresh.wechat.says(answer())
    assert isinstance(await fresh.certificates.refresh(), Refused | Unknown)
    assert fresh.certificates.ring == KeyRing()
    assert not fresh.folder.exists()
    assert caplog.text.count("certificates -: ") == 1
    assert API_V3_KEY not in caplog.text


async def test_a_wrong_apiv3_key_is_named(fresh, caplog):
    """R32."""
    fresh.wechat.says(listing("go_platform", api_v3_key="f" * 32))
    await fresh.certificates.refresh()
    assert "APIv3 key?" in caplog.text


async def test_a_certificate_we_hold_is_never_replaced_by_a_forged_one(line):
    """A later answer is checked with what we hold, not with what it brings under the same serial."""
    till = await line()
    keep(till, "go_platform")
    till = await line()
    till.wechat.says(listing(forged_certificate(), signer="java_wechatpay"))
    assert isinstance(await till.certificates.refresh(), Unknown)


async def test_no_key_is_asked_for_by_name(fresh):
    """WeChat refuses a serial that it has given up, and then nobody could ever renew."""
    fresh.wechat.says(listing("go_platform"), listing("java_merchant", **NEXT))
    await fresh.certificates.refresh()
    assert isinstance(await fresh.certificates.refresh(), KeyRing)
    assert all("Wechatpay-Serial" not in heard.headers for heard in fresh.wechat.heard)


async def test_a_public_key_merchant_has_no_certificates_and_needs_none(line, caplog):
    till = await line(public_key_merchant())
    till.wechat.says(v3_error(404, "RESOURCE_NOT_EXISTS", "无可用证书"))
    assert isinstance(await till.certificates.refresh(), KeyRing)
    assert caplog.records == []
    assert not till.certificates.refresh_due(NOW + timedelta(hours=11))
    assert till.certificates.request_headers("GET", "/", b"")["Wechatpay-Serial"] == PUBLIC_KEY_ID


async def test_without_a_public_key_the_404_is_the_operators(fresh):
    fresh.wechat.says(v3_error(404, "RESOURCE_NOT_EXISTS"))
    answer = await fresh.certificates.refresh()
    assert answer.meaning is Meaning.CONFIGURATION
    assert "WECHAT_PAY_PUBLIC_KEY_ID" in answer.explanation


async def test_passing_trouble_is_overcome(fresh):
    fresh.wechat.says(v3_error(500, "SYSTEM_ERROR"), listing("go_platform"))
    assert isinstance(await fresh.certificates.refresh(), KeyRing)


# -- when to ask ---------------------------------------------------------------------------------


async def test_the_ring_is_renewed_every_twelve_hours(fresh):
    assert fresh.certificates.refresh_due(NOW)
    fresh.wechat.says(listing("go_platform"))
    await fresh.certificates.refresh()
    assert not fresh.certificates.refresh_due(NOW + timedelta(hours=12, seconds=-1))
    assert fresh.certificates.refresh_due(NOW + timedelta(hours=12))


async def test_a_failed_renewal_stays_due(fresh):
    fresh.wechat.says(v3_error(401, "SIGN_ERROR"))
    await fresh.certificates.refresh()
    assert fresh.certificates.refresh_due(NOW)


async def test_a_v2_merchant_has_no_ring_to_renew(line):
    till = await line(merchant(api_v3_key=None))
    assert not till.certificates.refresh_due(NOW)
    with pytest.raises(MerchantFault, match="WECHAT_PAY_CERTS_DIR"):
        (await line(merchant(private_key=None))).certificates.request_headers("GET", "/", b"")


async def test_an_unknown_serial_is_worth_one_download(fresh):
    fresh.wechat.says(listing("go_platform"), listing("go_platform", "java_merchant", **NEXT))
    assert await fresh.certificates.check(v3_headers(BODY), BODY) == PLATFORM_SERIAL
    fresh.now += timedelta(hours=1)
    headers = v3_headers(BODY, at=fresh.now, **NEXT)
    fresh.wechat.answers[0] = listing("go_platform", "java_merchant", at=fresh.now, **NEXT)
    assert await fresh.certificates.check(headers, BODY) == JAVA_SERIAL
    assert len(fresh.wechat.heard) == 2


async def test_unknown_serials_cost_one_download_an_hour_however_many_come(fresh):
    """v3.md section 5: a stranger cannot make us call WeChat."""
    fresh.wechat.says(*(listing("go_platform", at=NOW + timedelta(minutes=30 * n)) for n in range(3)))
    for n in range(3):
        fresh.now = NOW + timedelta(minutes=30 * n)
        for serial in ("1A2B", "3C4D"):
            with pytest.raises(Rejected, match="serial"):
                await fresh.certificates.check(v3_headers(BODY, serial=serial, at=fresh.now), BODY)
    assert len(fresh.wechat.heard) == 2


async def test_after_a_failed_download_a_minute_is_enough(fresh):
    """Otherwise one bad second at the start would leave an hour without V3."""
    fresh.wechat.says(v3_error(401, "SIGN_ERROR"), listing("go_platform", at=NOW + timedelta(minutes=1)))
    for seconds in (0, 59):
        fresh.now = NOW + timedelta(seconds=seconds)
        with pytest.raises(Rejected, match="serial"):
            await fresh.certificates.check(v3_headers(BODY, at=fresh.now), BODY)
    assert len(fresh.wechat.heard) == 1
    fresh.now = NOW + timedelta(minutes=1)
    assert await fresh.certificates.check(v3_headers(BODY, at=fresh.now), BODY) == PLATFORM_SERIAL


async def test_many_callers_share_one_download(fresh):
    fresh.wechat.says(listing("go_platform"))
    checks = (fresh.certificates.check(v3_headers(BODY), BODY) for _ in range(20))
    assert set(await asyncio.gather(*checks)) == {PLATFORM_SERIAL}
    assert len(fresh.wechat.heard) == 1


@pytest.mark.parametrize("serial", ["PUB_KEY_ID_0119000072912024092000000000000002", "PUB_KEY_ID_x"])
async def test_an_unknown_public_key_is_no_reason_to_download(fresh, serial):
    """Certificates would not tell; and the id is never read as a number."""
    with pytest.raises(Rejected, match="serial"):
        await fresh.certificates.check(v3_headers(BODY, serial=serial), BODY)
    assert fresh.wechat.heard == []


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"signer": "java_merchant"}, "signature"),
        ({"at": NOW - timedelta(seconds=300)}, "clock"),
        ({"Wechatpay-Signature": "WECHATPAY/SIGNTEST/x"}, "probe"),
        ({"Wechatpay-Nonce": ""}, "missing_header"),
    ],
)
async def test_other_faults_are_no_reason_to_download(line, headers, reason):
    """R26, R27."""
    till = await line()
    keep(till, "go_platform")
    till = await line()
    with pytest.raises(Rejected, match=reason):
        await till.certificates.check(v3_headers(BODY, **headers), BODY)
    assert till.wechat.heard == []


# -- the folder ----------------------------------------------------------------------------------


async def test_a_file_that_is_no_certificate_is_skipped(line, caplog):
    till = await line()
    keep(till, "go_platform")
    (till.folder / "broken.pem").write_bytes(
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )
    till = await line()
    assert len(till.certificates.ring.keys) == 1
    assert till.certificates.ring.find(PLATFORM_SERIAL, NOW)
    assert "broken.pem" in caplog.text


async def test_a_folder_that_cannot_be_written_costs_no_payment(fresh, caplog):
    fresh.folder.write_text("a file stands where the folder should be")
    fresh.wechat.says(listing("go_platform"))
    assert isinstance(await fresh.certificates.refresh(), KeyRing)
    assert await fresh.certificates.check(v3_headers(BODY), BODY) == PLATFORM_SERIAL
    assert "are not kept" in caplog.text
