"""Every published or derived protocol vector that concerns the wire, run against our own code."""

import base64
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.x509 import load_pem_x509_certificate

from adapters.wechat import v2_wire, v3_wire

DOCUMENT = json.loads((Path(__file__).parent / "data" / "protocol_vectors.json").read_text(encoding="utf-8"))

# These belong to code beside the wire: bills, money, the schedule, and data we never ask for.
ELSEWHERE = {"yuan_to_fen", "bill_parse", "bill_hash", "retry_schedule", "aes_128_cbc"}


def of(*kinds):
    """Parametrise a test with the vectors of those kinds."""
    chosen = [vector for vector in DOCUMENT["vectors"] if vector["kind"] in kinds]
    assert chosen
    return pytest.mark.parametrize("vector", chosen, ids=[vector["id"] for vector in chosen])


@cache
def private_key(name):
    return v3_wire.load_private_key(DOCUMENT["keys"][name]["private_pem"].encode())


@cache
def public_key(name):
    entry = DOCUMENT["keys"][name]
    if "cert_pem" in entry:
        return v3_wire.load_certificate(entry["cert_pem"].encode()).public_key
    return private_key(name).public_key()


def test_no_kind_of_vector_is_forgotten():
    ours = {kind for kinds in KINDS.values() for kind in kinds}
    assert {vector["kind"] for vector in DOCUMENT["vectors"]} - ELSEWHERE == ours


@of("v2_sign")
def test_v2_signs(vector):
    given, expect = vector["input"], vector["expect"]
    text = v2_wire.string_to_sign(given["params"], given["key"])
    assert text == expect.get("string_to_sign", text)
    sign = v2_wire.sign(given["params"], given["key"], given["sign_type"])
    assert sign == expect.get("sign", sign)


@of("v2_xml_verify")
def test_v2_verifies_a_notification(vector):
    given, expect = vector["input"], vector["expect"]
    fields = v2_wire.read(given["xml"].encode())
    sign_type = given["sign_type"]
    if sign_type == "auto":
        sign_type = "HMAC-SHA256" if len(fields["sign"]) == 64 else "MD5"
    assert v2_wire.verify(fields, given["key"], sign_type) is expect["accept"]
    assert fields == expect.get("fields", fields)


@of("v2_xml_parse")
def test_v2_reads_xml_or_says_what_is_wrong_with_it(vector):
    body, expect = vector["input"]["xml"].encode(), vector["expect"]
    if expect["accept"]:
        fields = v2_wire.read(body)
        assert fields == expect["fields"]
        return
    with pytest.raises(v2_wire.MalformedXml) as refusal:
        v2_wire.read(body)
    assert refusal.value.reason == expect["reason"]


@of("v2_req_info")
def test_v2_opens_a_refund_notification(vector):
    given, expect = vector["input"], vector["expect"]
    if not expect["accept"]:
        with pytest.raises(v2_wire.Sealed) as refusal:
            v2_wire.open_req_info(given["req_info"], given["key"])
        assert refusal.value.reason == expect["reason"]
        return
    plain = v2_wire.open_req_info(given["req_info"], given["key"])
    assert plain.decode() == expect.get("plaintext", plain.decode())
    fields = v2_wire.read(plain, root="root")
    assert fields.items() >= expect["fields"].items()
    assert v2_wire.seal_req_info(plain, given["key"]) == given["req_info"]
    assert v2_wire.req_info_key(given["key"]).decode() == expect["aes_key"]


@of("aes_256_ecb")
def test_the_req_info_cipher_is_aes_256_ecb(vector):
    given = vector["input"]
    padder = PKCS7(128).padder()
    worker = v2_wire.ecb(given["key"].encode()).encryptor()
    sealed = worker.update(padder.update(given["plaintext"].encode()) + padder.finalize())
    assert base64.b64encode(sealed + worker.finalize()).decode() == vector["expect"]["ciphertext"]


@of("v3_request_sign")
def test_v3_signs_a_request(vector):
    given, expect = vector["input"], vector["expect"]
    parts = (given["method"], given["url"])
    stamp = (given["timestamp"], given["nonce"])
    message = v3_wire.request_message(*parts, *stamp, given["body"].encode())
    assert message == expect["message"].encode()
    if "private_key" not in given:
        return
    key = private_key(given["private_key"])
    assert v3_wire.sign(key, message) == expect["signature"]
    if "serial_no" not in given:
        return
    header = v3_wire.authorization(
        key, given["mchid"], given["serial_no"], *parts, given["body"].encode(), *stamp
    )
    assert header == expect.get("authorization", header)
    assert v3_wire.parse_authorization(header)["signature"] == expect["signature"]


@of("v3_pay_sign")
def test_r1_v3_signs_pay_params(vector):
    given, expect = vector["input"], vector["expect"]
    message = v3_wire.pay_message(given["appId"], given["timeStamp"], given["nonceStr"], given["package"])
    assert message.decode() == expect.get("message", message.decode())
    key = private_key(given["private_key"])
    assert v3_wire.sign(key, message) == expect["paySign"]
    assert v3_wire.verify(key.public_key(), message, expect["paySign"])


@of("rsa_sha256")
def test_v3_verifies_a_signature(vector):
    given, expect = vector["input"], vector["expect"]
    message = given["message"].encode()
    assert v3_wire.verify(public_key(given["public_key"]), message, given["signature"]) is expect["valid"]
    if "private_key" in given:
        assert v3_wire.sign(private_key(given["private_key"]), message) == expect["signature"]


@of("rsa_oaep")
def test_v3_opens_a_sensitive_field(vector):
    given, expect = vector["input"], vector["expect"]
    key = private_key(given["private_key"])
    if expect["accept"]:
        assert v3_wire.decrypt_field(key, given["ciphertext"]) == expect["plaintext"]
        sealed = v3_wire.encrypt_field(key.public_key(), expect["plaintext"])
        assert v3_wire.decrypt_field(key, sealed) == expect["plaintext"]
        return
    with pytest.raises(v3_wire.Rejected) as refusal:
        v3_wire.decrypt_field(key, given["ciphertext"])
    assert refusal.value.reason == expect["reason"]


@of("aes_gcm")
def test_v3_opens_a_resource(vector):
    given, expect = vector["input"], vector["expect"]
    sealed = (given["key"], given["nonce"], given["associated_data"])
    if expect["accept"]:
        plain = v3_wire.open_resource(*sealed, given["ciphertext"])
        assert plain == expect["plaintext"].encode()
        assert v3_wire.seal_resource(*sealed, plain) == given["ciphertext"]
        return
    with pytest.raises(v3_wire.Rejected) as refusal:
        v3_wire.open_resource(*sealed, given["ciphertext"])
    assert refusal.value.reason == expect["reason"]


def opened(given):
    """What a client does with a signed message: check, and for a notification open its resource."""
    ring = v3_wire.KeyRing().with_keys(
        *(
            v3_wire.PlatformKey(serial=serial, public_key=public_key(name))
            for serial, name in given["keyring"].items()
        )
    )
    body = given["body"].encode()
    v3_wire.check(given["headers"], body, ring, datetime.fromtimestamp(given["now"], UTC))
    if "apiv3_key" not in given:
        return {}
    document = json.loads(body)
    box = document["resource"]
    plain = v3_wire.open_resource(
        given["apiv3_key"], box["nonce"], box.get("associated_data"), box["ciphertext"]
    )
    return {"event_type": document["event_type"], "resource": json.loads(plain)}


@of("v3_message")
def test_v3_checks_a_message(vector):
    expect = vector["expect"]
    if expect["accept"]:
        found = opened(vector["input"])
        assert found.get("event_type") == expect.get("event_type", found.get("event_type"))
        resource = expect.get("resource", {})
        assert {name: found["resource"][name] for name in resource} == resource
        return
    with pytest.raises(v3_wire.Rejected) as refusal:
        opened(vector["input"])
    assert refusal.value.reason == expect["reason"]


@of("v3_certificates")
def test_v3_reads_platform_certificates(vector):
    given, expect = vector["input"], vector["expect"]
    keys = v3_wire.read_certificates(given["body"].encode(), given["apiv3_key"])
    found = [
        {
            "serial_no": key.serial,
            "sha256": load_pem_x509_certificate(key.pem).fingerprint(hashes.SHA256()).hex(),
            "expire_time": key.expires_at,
        }
        for key in keys
    ]
    for item in expect["certificates"]:
        item["expire_time"] = datetime.fromisoformat(item["expire_time"])
    assert found == expect["certificates"]


@of("clock_window")
def test_r27_the_clock_may_be_almost_300_seconds_off(vector):
    given = vector["input"]
    now = datetime.fromtimestamp(given["now"], UTC)
    assert v3_wire.within_window(str(given["timestamp"]), now) is vector["expect"]["accept"]


KINDS = {
    name: {vector["kind"] for vector in mark.args[1]}
    for name, test in list(globals().items())
    if name.startswith("test_")
    for mark in getattr(test, "pytestmark", [])
}
