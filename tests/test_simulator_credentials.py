"""What the simulator writes for a merchant, and what it finds there the next time."""

import stat

import pytest
from attrs import evolve
from cryptography import x509
from dotenv import dotenv_values

from adapters.wechat import v3_wire
from adapters.wechat.simulator import prepare
from tests.simulator_side import account

BASE, NOTIFY = "http://127.0.0.1:5001", "http://127.0.0.1:5000/n"
FILES = {
    "simulator.env",
    "apiclient_cert.pem",
    "apiclient_key.pem",
    "pub_key.pem",
    "platform_cert.pem",
    "tls_cert.pem",
    "wechat",
}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("shop") / "new", base_url=BASE, notify_url=NOTIFY, seed=7)


def settings(credentials):
    return dotenv_values(credentials.file("simulator.env"))


def test_everything_a_merchant_holds_is_written(first):
    assert {path.name for path in first.directory.iterdir()} == FILES
    assert settings(first) == {
        "WECHAT_PAY_MCH_ID": first.mch_id,
        "WECHAT_PAY_APPID": first.appid,
        "WECHAT_PAY_APP_SECRET": first.app_secret,
        "WECHAT_PAY_API_KEY": first.api_key,
        "WECHAT_PAY_API_V3_KEY": first.apiv3_key,
        "WECHAT_PAY_PUBLIC_KEY_ID": first.public_key_id,
        "WECHAT_PAY_NOTIFY_URL": NOTIFY,
        "WECHAT_PAY_CERTS_DIR": str(first.directory),
        "WECHAT_PAY_BASE_URL": BASE,
    }


def test_the_values_have_wechats_shapes(first):
    assert len(first.mch_id) == 10
    assert first.mch_id.isdigit()
    assert first.appid.startswith("wx")
    assert len(first.appid) == 18
    assert (len(first.api_key), len(first.apiv3_key), len(first.app_secret)) == (32, 32, 32)
    assert first.public_key_id.startswith("PUB_KEY_ID_01")


def test_r2_keys_and_certificates_belong_together(first):
    merchant_key = v3_wire.load_private_key(first.file("apiclient_key.pem").read_bytes())
    assert merchant_key.public_key() == first.merchant.public_key
    public = v3_wire.load_public_key(first.file("pub_key.pem").read_bytes())
    assert public == first.public_key.public_key()
    assert first.platform_key.public_key() == first.platform.public_key
    for name in ("apiclient_cert.pem", "platform_cert.pem"):
        certificate = x509.load_pem_x509_certificate(first.file(name).read_bytes())
        assert len(f"{certificate.serial_number:X}") == 40


def test_what_is_secret_is_readable_by_its_owner_alone(first):
    for path in (first.file("apiclient_key.pem"), first.file("simulator.env")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.own_file("").stat().st_mode) == 0o700
    for path in first.own_file("").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_time_everything_is_found_again(first):
    before = {path: path.read_bytes() for path in first.directory.glob("**/*.pem")}
    again = prepare(first.directory, base_url=BASE, notify_url=NOTIFY, seed=8)
    assert {path: path.read_bytes() for path in first.directory.glob("**/*.pem")} == before
    assert (again.mch_id, again.api_key, again.merchant.serial) == (
        first.mch_id,
        first.api_key,
        first.merchant.serial,
    )


def test_addresses_may_change_between_starts(first):
    prepare(
        first.directory, base_url="http://localhost:6001", notify_url="http://x/#n o", public_key_mode=True
    )
    told = settings(first)
    assert told["WECHAT_PAY_NOTIFY_URL"] == "http://x/#n o"
    assert told["WECHAT_PAY_BASE_URL"] == "http://localhost:6001"
    assert told["WECHAT_PAY_API_KEY"] == first.api_key
    prepare(first.directory, base_url=BASE, notify_url=NOTIFY)
    assert settings(first)["WECHAT_PAY_BASE_URL"] == BASE


def test_a_broken_key_file_is_told_by_its_kind(tmp_path):
    for name in ("apiclient_cert.pem", "platform_cert.pem", "tls_cert.pem", "pub_key.pem"):
        (tmp_path / name).write_text("nonsense")
    with pytest.raises(ValueError, match="not a certificate"):
        prepare(tmp_path, base_url=BASE, notify_url=NOTIFY)


def test_a_directory_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        prepare(tmp_path / "file", base_url=BASE, notify_url=NOTIFY)


def test_the_seed_decides_the_numbers_and_no_key(first):
    credentials = account()
    assert credentials.api_key != first.api_key
    assert credentials.mch_id != first.mch_id


def test_no_secret_shows_in_a_repr():
    credentials = account()
    shown = repr(credentials) + repr(evolve(credentials, base_url="x"))
    for secret in (credentials.app_secret, credentials.api_key, credentials.apiv3_key, "PRIVATE"):
        assert secret not in shown


def test_an_address_that_cannot_be_written_is_refused(tmp_path, first):
    for name in FILES - {"simulator.env"}:
        (tmp_path / name).symlink_to(first.directory / name)
    with pytest.raises(ValueError, match="cannot be written"):
        prepare(tmp_path, base_url="http://x/\n", notify_url=NOTIFY)
