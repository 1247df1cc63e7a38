"""The merchant's credentials: read once, and refused before they can do harm."""

import pytest

from adapters.wechat.merchant import Merchant, MerchantFaults, notify_url_problem
from adapters.wechat.simulator.certificates import public_pem
from tests.wechat_side import (
    API_KEY,
    API_V3_KEY,
    APPID,
    DOCUMENT,
    MCH_ID,
    NOTIFY_URL,
    PUBLIC_KEY_ID,
    certificate_pem,
    private_key,
)

JAVA = DOCUMENT["keys"]["java_merchant"]


def key_pem(name):
    return DOCUMENT["keys"][name]["private_pem"].encode()


@pytest.fixture
def certs(tmp_path):
    """A certs directory as the merchant platform fills it."""
    (tmp_path / "apiclient_cert.pem").write_bytes(certificate_pem("java_merchant"))
    (tmp_path / "apiclient_key.pem").write_bytes(key_pem("java_merchant"))
    (tmp_path / "pub_key.pem").write_bytes(public_pem(private_key("java_wechatpay")))
    return tmp_path


def load(certs, **changes):
    return Merchant.load(
        **{
            "mch_id": MCH_ID,
            "appid": APPID,
            "notify_url": NOTIFY_URL,
            "certs_dir": certs,
            "api_key": API_KEY,
            "api_v3_key": API_V3_KEY,
            **changes,
        }
    )


def faults_of(certs, **changes):
    with pytest.raises(MerchantFaults) as refusal:
        load(certs, **changes)
    for fault in refusal.value.faults:
        assert fault.remedy, "each fault says how to mend it"
        for secret in ("api_key", "api_v3_key"):
            assert len(changes.get(secret) or "") < 16 or changes[secret] not in str(fault)
    return [(fault.variable, fault.problem) for fault in refusal.value.faults]


def test_a_merchant_with_everything_speaks_both_versions(certs):
    """R2: the serial is read from the certificate."""
    merchant = load(certs, public_key_id=PUBLIC_KEY_ID)
    assert merchant.speaks_v2
    assert merchant.speaks_v3
    assert merchant.serial == JAVA["cert_serial"]
    assert merchant.certificate == (certs / "apiclient_cert.pem", certs / "apiclient_key.pem")
    assert merchant.public_key == private_key("java_wechatpay").public_key()
    assert (merchant.v2_key, merchant.v3_key) == (API_KEY, API_V3_KEY)


def test_a_v2_merchant_needs_no_files(tmp_path):
    merchant = load(tmp_path, api_version="v2", api_v3_key=None)
    assert merchant.speaks_v2
    assert not merchant.speaks_v3
    assert merchant.certificate is None


def test_a_v3_merchant_needs_no_v2_key(certs):
    merchant = load(certs, api_key=None)
    assert not merchant.speaks_v2
    assert merchant.speaks_v3


def test_a_merchant_shows_no_secret(certs):
    """R46."""
    shown = repr(load(certs, public_key_id=PUBLIC_KEY_ID))
    for secret in (API_KEY, API_V3_KEY, "PRIVATE KEY", "RSAPrivateKey"):
        assert secret not in shown


def test_a_key_of_another_certificate_is_refused(certs):
    """R2."""
    (certs / "apiclient_key.pem").write_bytes(key_pem("go_platform"))
    ((variable, problem),) = faults_of(certs)
    assert variable == "WECHAT_PAY_CERTS_DIR"
    assert "do not belong together" in problem


@pytest.mark.parametrize("missing", ["apiclient_cert.pem", "apiclient_key.pem"])
def test_a_key_without_its_certificate_is_refused(certs, missing):
    """R2."""
    (certs / missing).unlink()
    ((variable, problem),) = faults_of(certs)
    assert variable == "WECHAT_PAY_CERTS_DIR"
    assert problem.endswith(f"without {missing}")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("apiclient_key.pem", certificate_pem("java_merchant")),
        ("apiclient_cert.pem", key_pem("java_merchant")),
        ("pub_key.pem", certificate_pem("java_wechatpay")),
        ("pub_key.pem", b""),
        ("apiclient_key.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        ("apiclient_cert.pem", b"\x30\x82 not PEM at all"),
    ],
)
def test_a_pem_of_the_wrong_kind_is_refused(certs, name, content):
    (certs / name).write_bytes(content)
    faults = faults_of(certs, public_key_id=PUBLIC_KEY_ID)
    assert [variable for variable, problem in faults if name in problem] == ["WECHAT_PAY_CERTS_DIR"]


def test_a_file_that_cannot_be_read_is_refused(certs):
    (certs / "pub_key.pem").unlink()
    (certs / "pub_key.pem").mkdir()
    faults = faults_of(certs, public_key_id=PUBLIC_KEY_ID)
    assert "cannot be read" in faults[0][1]


@pytest.mark.parametrize("key", ["a" * 16, "a" * 31, "a" * 33, "一" * 10 + "aa", "一" * 32, "a" * 31 + " "])
def test_an_apiv3_key_is_exactly_32_bytes(certs, key):
    """v3.md section 1: real ones are 32; 16 are test data."""
    assert [variable for variable, _ in faults_of(certs, api_v3_key=key)] == ["WECHAT_PAY_API_V3_KEY"]


@pytest.mark.parametrize("key", ["a" * 31, "a" * 33, " " + "a" * 31, "a" * 31 + "一", "a" * 31 + "-"])
def test_an_api_key_is_32_letters_and_digits(certs, key):
    assert [variable for variable, _ in faults_of(certs, api_key=key)] == ["WECHAT_PAY_API_KEY"]


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"mch_id": "19000"}, "WECHAT_PAY_MCH_ID"),
        ({"mch_id": "１９００００７２９１"}, "WECHAT_PAY_MCH_ID"),
        ({"mch_id": MCH_ID + "\n"}, "WECHAT_PAY_MCH_ID"),
        ({"appid": ""}, "WECHAT_PAY_APPID"),
        ({"api_version": "v4"}, "WECHAT_PAY_API_VERSION"),
        ({"sign_type": "SHA256"}, "WECHAT_PAY_SIGN_TYPE"),
        ({"api_version": "v2", "api_key": ""}, "WECHAT_PAY_API_KEY"),
        ({"api_v3_key": ""}, "WECHAT_PAY_API_V3_KEY"),
        ({"public_key_id": "0119000072912024092000000000000001"}, "WECHAT_PAY_PUBLIC_KEY_ID"),
        ({"notify_url": "https://shop.example/notify?x=1"}, "WECHAT_PAY_NOTIFY_URL"),
    ],
)
def test_a_setting_that_will_not_do_is_named(certs, changes, variable):
    assert [named for named, _ in faults_of(certs, **changes)] == [variable]


def test_a_public_key_id_without_its_file_is_refused(certs):
    (certs / "pub_key.pem").unlink()
    assert [variable for variable, _ in faults_of(certs, public_key_id=PUBLIC_KEY_ID)] == [
        "WECHAT_PAY_PUBLIC_KEY_ID"
    ]


def test_v3_without_files_is_refused(tmp_path):
    ((variable, problem),) = faults_of(tmp_path)
    assert variable == "WECHAT_PAY_CERTS_DIR"
    assert "neither" in problem


def test_all_faults_come_at_once(certs):
    (certs / "apiclient_key.pem").write_bytes(key_pem("go_platform"))
    named = [variable for variable, _ in faults_of(certs, mch_id="x", api_key="short", api_v3_key="short")]
    assert sorted(named) == [
        "WECHAT_PAY_API_KEY",
        "WECHAT_PAY_API_V3_KEY",
        "WECHAT_PAY_CERTS_DIR",
        "WECHAT_PAY_MCH_ID",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:5000/api/wechat/pay/notify",
        "https://shop.example/api/wechat/pay/notify",
        "https://shop.example:8443/n",
    ],
)
def test_a_full_address_without_a_query_is_fine(url):
    """R21."""
    assert notify_url_problem(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example/notify",
        "ftp://shop.example/notify",
        "https:///notify",
        "https://shop.example",
        "https://shop.example/",
        "https://shop.example/notify?",
        "https://shop.example/notify?a=1",
        "https://shop.example/notify#a",
        "https://shop.example/no tify",
        " https://shop.example/notify",
        "https://shop.example/notify\n",
        "https://[shop/notify",
        "https://店铺.example/notify",
        "https://shop.example/" + "n" * 240,
    ],
)
def test_wechat_would_not_call_such_an_address(url):
    """R21."""
    assert notify_url_problem(url)
