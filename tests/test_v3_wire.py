"""V3's signatures, key ring and sealed data, beyond the published vectors."""

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from adapters.wechat import v3_wire
from adapters.wechat.v3_wire import KeyRing, PlatformKey, Rejected

NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
STAMP = str(int(NOW.timestamp()))
APIV3_KEY = "0123456789abcdef0123456789abcdef"
PUBLIC_ID = "PUB_KEY_ID_0110000000000000000000000000000001"
SERIAL = "1ABCDEF"


@cache
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def other_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def platform(serial=SERIAL, signer=None, **dates):
    return PlatformKey(serial=serial, public_key=(signer or key()).public_key(), **dates)


def signed(body=b"{}", serial=SERIAL, timestamp=STAMP, signer=None, **headers):
    message = v3_wire.response_message(timestamp, "n0nce", body)
    return {
        "Wechatpay-Timestamp": timestamp,
        "Wechatpay-Nonce": "n0nce",
        "Wechatpay-Serial": serial,
        "Wechatpay-Signature": v3_wire.sign(signer or key(), message),
        **headers,
    }


def reason_of(headers, body=b"{}", ring=None):
    with pytest.raises(Rejected) as refusal:
        v3_wire.check(headers, body, ring or KeyRing().with_keys(platform()), NOW)
    return refusal.value.reason


@pytest.mark.parametrize("serial", [SERIAL, SERIAL.lower(), "0" + SERIAL, "00" + SERIAL.lower()])
def test_a_certificate_serial_is_compared_as_hex_without_regard_to_case(serial):
    ring = KeyRing().with_keys(platform())
    assert v3_wire.check(signed(serial=serial), b"{}", ring, NOW) == SERIAL


def test_a_public_key_id_is_compared_as_text():
    ring = KeyRing().with_keys(platform(PUBLIC_ID))
    assert v3_wire.check(signed(serial=PUBLIC_ID), b"{}", ring, NOW) == PUBLIC_ID
    assert reason_of(signed(serial=PUBLIC_ID.lower()), ring=ring) == "serial"


def test_an_expired_certificate_verifies_nothing():
    ring = KeyRing().with_keys(platform(expires_at=NOW))
    assert reason_of(signed(), ring=ring) == "serial"


def test_r52_each_message_is_checked_with_the_key_it_names_and_no_other():
    ring = KeyRing().with_keys(platform(), platform(PUBLIC_ID, other_key()))
    assert v3_wire.check(signed(), b"{}", ring, NOW) == SERIAL
    assert v3_wire.check(signed(serial=PUBLIC_ID, signer=other_key()), b"{}", ring, NOW) == PUBLIC_ID
    assert reason_of(signed(serial=PUBLIC_ID), ring=ring) == "signature"


@pytest.mark.parametrize(
    "name", ["Wechatpay-Timestamp", "Wechatpay-Nonce", "Wechatpay-Serial", "Wechatpay-Signature"]
)
def test_each_header_is_needed(name):
    assert reason_of({**signed(), name: ""}) == "missing_header"
    headers = signed()
    del headers[name]
    assert reason_of(headers) == "missing_header"


def test_another_signature_type_is_refused():
    assert reason_of(signed(**{"Wechatpay-Signature-Type": "WECHATPAY2-SM2-WITH-SM3"})) == "type"


@pytest.mark.parametrize("seconds", [300, -300, 1_000_000])
def test_r27_a_timestamp_300_seconds_off_is_refused(seconds):
    stamp = str(int(NOW.timestamp()) + seconds)
    assert reason_of(signed(timestamp=stamp)) == "clock"


@pytest.mark.parametrize("stamp", ["now", "-1", "１７０４", "9" * 5000, STAMP + "000", STAMP + ".0"])
def test_a_timestamp_that_is_no_seconds_is_refused(stamp):
    assert reason_of({**signed(), "Wechatpay-Timestamp": stamp}) == "clock"


def test_r26_a_probe_is_told_from_a_forgery_but_not_accepted():
    assert reason_of({**signed(), "Wechatpay-Signature": "WECHATPAY/SIGNTEST/abcd"}) == "probe"


def test_an_old_probe_fails_by_its_clock_first():
    old = {**signed(), "Wechatpay-Timestamp": "1", "Wechatpay-Signature": "WECHATPAY/SIGNTEST/abcd"}
    assert reason_of(old) == "clock"


@pytest.mark.parametrize("signature", ["!", "茶", "QUJD", "\udcff"])
def test_a_signature_that_is_no_base64_or_too_short_is_refused(signature):
    assert reason_of({**signed(), "Wechatpay-Signature": signature}) == "signature"


def test_header_bytes_that_are_no_text_are_refused_without_a_crash():
    assert reason_of({**signed(), "Wechatpay-Nonce": "\udcff"}) == "signature"
    assert reason_of({**signed(), "Wechatpay-Serial": "\udcff"}) == "serial"


@given(st.binary(max_size=200), st.integers(0), st.integers(1, 255))
def test_r23_one_flipped_byte_of_the_body_is_noticed(body, at, flip):
    body += b"."
    headers = signed(body)
    damaged = bytearray(body)
    damaged[at % len(body)] ^= flip
    assert reason_of(headers, bytes(damaged)) == "signature"


@given(st.binary(max_size=200))
def test_any_body_is_signed_and_verified_as_its_bytes(body):
    v3_wire.check(signed(body), body, KeyRing().with_keys(platform()), NOW)


def test_the_newest_key_is_the_public_key_else_the_latest_certificate():
    old = platform("A", effective_at=NOW - timedelta(days=9), expires_at=NOW + timedelta(days=1))
    new = platform("B", effective_at=NOW - timedelta(days=1), expires_at=NOW + timedelta(days=9))
    gone = platform("C", effective_at=NOW, expires_at=NOW)
    ring = KeyRing().with_keys(new, old, gone)
    assert ring.newest(NOW) is new
    assert ring.with_keys(public := platform(PUBLIC_ID)).newest(NOW) is public
    assert KeyRing().newest(NOW) is None


def test_an_authorization_header_comes_apart_again_in_any_order():
    header = v3_wire.authorization(key(), "1900000001", SERIAL, "GET", "/v3/x?a=%20b", b"", STAMP, "n")
    scheme, pairs = header.split(" ", 1)
    values = v3_wire.parse_authorization(f"{scheme} {','.join(reversed(pairs.split(',')))}")
    assert (values["mchid"], values["serial_no"], values["timestamp"]) == ("1900000001", SERIAL, STAMP)
    message = v3_wire.request_message("GET", "/v3/x?a=%20b", STAMP, "n", b"")
    assert v3_wire.verify(key().public_key(), message, values["signature"])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "type"),
        ("Bearer x", "type"),
        ("WECHATPAY2-SHA256-RSA2048", "malformed"),
        ('WECHATPAY2-SHA256-RSA2048 mchid="1"', "malformed"),
        (
            'WECHATPAY2-SHA256-RSA2048 mchid="1",mchid="2",nonce_str="",timestamp="",serial_no=""',
            "malformed",
        ),
        (
            'WECHATPAY2-SHA256-RSA2048 mchid="1", nonce_str="",timestamp="",serial_no="",signature=""',
            "malformed",
        ),
    ],
)
def test_a_malformed_authorization_is_refused(header, reason):
    with pytest.raises(Rejected) as refusal:
        v3_wire.parse_authorization(header)
    assert refusal.value.reason == reason


@given(st.binary(max_size=100), st.text(max_size=16).filter(lambda text: text.isascii()))
def test_a_sealed_resource_opens_to_what_went_in(plain, associated_data):
    sealed = v3_wire.seal_resource(APIV3_KEY, "123456789012", associated_data, plain)
    assert v3_wire.open_resource(APIV3_KEY, "123456789012", associated_data, sealed) == plain


@pytest.mark.parametrize(
    ("apiv3_key", "nonce", "ciphertext"),
    [
        (APIV3_KEY, "123456789012", "!"),
        (APIV3_KEY, "123456789012", ""),
        (APIV3_KEY, "1234", "QUJDRA=="),
        (APIV3_KEY, "", "QUJDRA=="),
        (APIV3_KEY, "\ud800" * 12, "QUJDRA=="),
        ("short", "123456789012", "QUJDRA=="),
    ],
)
def test_r32_what_does_not_open_is_refused_as_such(apiv3_key, nonce, ciphertext):
    with pytest.raises(Rejected) as refusal:
        v3_wire.open_resource(apiv3_key, nonce, "", ciphertext)
    assert refusal.value.reason == "decrypt"


def certificate(signer=None, serial=0x1ABCDEF):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenpay.com")])
    signer = signer or key()
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(signer.public_key())
        .serial_number(serial)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(signer, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def listed(pem, **changes):
    item = {
        "serial_no": SERIAL,
        "effective_time": "2024-01-02T11:04:05+08:00",
        "expire_time": "2029-01-02T11:04:05+08:00",
        "encrypt_certificate": {
            "algorithm": "AEAD_AES_256_GCM",
            "nonce": "123456789012",
            "associated_data": "certificate",
            "ciphertext": v3_wire.seal_resource(APIV3_KEY, "123456789012", "certificate", pem),
        },
        **changes,
    }
    return json.dumps({"data": [item]}).encode()


def test_listed_certificates_carry_wechats_dates():
    (found,) = v3_wire.read_certificates(listed(certificate()), APIV3_KEY)
    assert (found.serial, found.effective_at, found.pem) == (SERIAL, NOW, certificate())
    assert found.expires_at == datetime(2029, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "malformed"),
        (b"[" * 100_000, "malformed"),
        (b"[]", "malformed"),
        (b'{"data": [1]}', "malformed"),
        (b'{"data": [{"encrypt_certificate": {}}]}', "malformed"),
        (listed(b"not a certificate"), "malformed"),
        (listed(certificate(), serial_no="FF"), "serial"),
        (listed(certificate(), effective_time="2024-01-02T11:04:05"), "malformed"),
        (listed(certificate(), effective_time="0001-01-01T00:00:00+08:00"), "malformed"),
        (listed(certificate(), encrypt_certificate={"algorithm": "AEAD_SM4_GCM"}), "malformed"),
    ],
)
def test_a_certificate_list_that_is_not_one_is_refused(body, reason):
    with pytest.raises(Rejected) as refusal:
        v3_wire.read_certificates(body, APIV3_KEY)
    assert refusal.value.reason == reason


def test_certificates_do_not_open_with_another_apiv3_key():
    with pytest.raises(Rejected, match="decrypt"):
        v3_wire.read_certificates(listed(certificate()), APIV3_KEY[::-1])


def test_214_bytes_fit_a_sensitive_field_and_no_more():
    assert v3_wire.decrypt_field(key(), v3_wire.encrypt_field(key().public_key(), "x" * 214)) == "x" * 214
    with pytest.raises(ValueError, match="Encryption failed"):
        v3_wire.encrypt_field(key().public_key(), "x" * 215)


def pem_of(private):
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_pem_files_come_in():
    assert v3_wire.load_private_key(pem_of(key())).private_numbers() == key().private_numbers()
    public = (
        key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    assert v3_wire.load_public_key(public) == key().public_key()
    assert v3_wire.load_certificate(certificate()).serial == SERIAL


@pytest.mark.parametrize(
    "load", [v3_wire.load_private_key, v3_wire.load_public_key, v3_wire.load_certificate]
)
def test_a_file_of_another_kind_is_refused_without_showing_it(load):
    curve = ec.generate_private_key(ec.SECP256R1())
    secret = base64.b64encode(b"secret").decode()
    for pem in (b"", secret.encode(), pem_of(curve), certificate(curve)):
        with pytest.raises(ValueError, match=r"not an? ") as refusal:
            load(pem)
        assert secret not in str(refusal.value)


def test_keys_do_not_show_in_a_repr():
    text = repr(evolve(platform(), pem=b"-----BEGIN"))
    assert "RSA" not in text
    assert "BEGIN" not in text
