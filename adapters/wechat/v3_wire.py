"""WeChat Pay V3 on the wire: JSON signed with RSA, secrets in AES-GCM."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import Factory, evolve, field, frozen
from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SCHEME = "WECHATPAY2-SHA256-RSA2048"
ALGORITHM = "AEAD_AES_256_GCM"
PROBE_PREFIX = "WECHATPAY/SIGNTEST/"
PUBLIC_KEY_PREFIX = "PUB_KEY_ID_"
FOREVER = datetime.max.replace(tzinfo=UTC)
WINDOW_SECONDS = 300  # refused at exactly 300, in both directions (v3.md section 5, R27)

SECONDS = re.compile(r"[0-9]{1,12}")
PAIR = re.compile(r'([a-z_]+)="([^"]*)"')
AUTHORIZATION_NAMES = ("mchid", "nonce_str", "timestamp", "serial_no", "signature")
# SHA-1 in OAEP is WeChat's choice; OAEP does not lean on its collision resistance.
OAEP = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # noqa: S303 - see above


class Rejected(Exception):
    """A message to be treated as never received.

    `reason` is missing_header, type, clock, probe, serial, signature, decrypt or malformed.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# ------------------------------------------------------------------ messages and signatures


def request_message(method: str, url: str, timestamp: str, nonce: str, body: bytes) -> bytes:
    """What a request signs: `url` is path and query exactly as on the wire (v3.md section 3)."""
    return _bytes(f"{method}\n{url}\n{timestamp}\n{nonce}\n") + body + b"\n"


def response_message(timestamp: str, nonce: str, body: bytes) -> bytes:
    """What an answer or a notification signs (v3.md section 5)."""
    return _bytes(f"{timestamp}\n{nonce}\n") + body + b"\n"


def _bytes(head: str) -> bytes:
    # aiohttp hands bytes of a header that are no UTF-8 over as surrogates: this gives them back.
    return head.encode(errors="surrogateescape")


def pay_message(appid: str, timestamp: str, nonce: str, package: str) -> bytes:
    """What pay_params sign; `package` is `prepay_id=…` with its prefix (v3.md section 4, R1)."""
    return f"{appid}\n{timestamp}\n{nonce}\n{package}\n".encode()


def sign(private_key: RSAPrivateKey, message: bytes) -> str:
    """Base64 of SHA-256 with RSA, PKCS#1 v1.5."""
    return base64.b64encode(private_key.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()


def verify(public_key: RSAPublicKey, message: bytes, signature: str) -> bool:
    """Whether the key's owner signed exactly this message; bad base64 is no signature."""
    try:
        raw = base64.b64decode(signature, validate=True)
        public_key.verify(raw, message, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def authorization(  # noqa: PLR0913, PLR0917 - the header is made of eight things
    private_key: RSAPrivateKey,
    mchid: str,
    serial: str,
    method: str,
    url: str,
    body: bytes,
    timestamp: str,
    nonce: str,
) -> str:
    """The Authorization header over the exact bytes sent; timestamp in seconds (v3.md section 3)."""
    signature = sign(private_key, request_message(method, url, timestamp, nonce, body))
    return (
        f'{SCHEME} mchid="{mchid}",nonce_str="{nonce}",timestamp="{timestamp}",'
        f'serial_no="{serial}",signature="{signature}"'
    )


def parse_authorization(header: str) -> dict[str, str]:
    """The five values of an Authorization header, in any order; raise Rejected for another shape."""
    scheme, _, rest = header.partition(" ")
    if scheme != SCHEME:
        raise Rejected("type")
    pairs = [PAIR.fullmatch(part) for part in rest.split(",")]
    values = {pair[1]: pair[2] for pair in pairs if pair}
    if len(pairs) != len(AUTHORIZATION_NAMES) or sorted(values) != sorted(AUTHORIZATION_NAMES):
        raise Rejected("malformed")
    return values


# ------------------------------------------------------------------ whose key


@frozen(kw_only=True)
class PlatformKey:
    """A key WeChat signs with: a platform certificate's, or the WeChat Pay public key (no dates)."""

    serial: str
    public_key: RSAPublicKey = field(repr=False)
    effective_at: datetime | None = None
    expires_at: datetime | None = None
    pem: bytes = field(default=b"", repr=False)

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


def canonical(serial: str) -> str:
    """A serial as we compare it: PUB_KEY_ID_… as text, any other as hex without regard to case."""
    return serial if serial.startswith(PUBLIC_KEY_PREFIX) else serial.lower().lstrip("0")


@frozen
class KeyRing:
    """Every key of WeChat's that we hold; each message names its own (v3.md section 5, R52)."""

    keys: Mapping[str, PlatformKey] = Factory(dict)

    def find(self, serial: str, now: datetime) -> PlatformKey | None:
        """The key of that serial, unless it is unknown or has expired. Never another one."""
        key = self.keys.get(canonical(serial))
        return None if key is None or key.expired(now) else key

    def with_keys(self, *keys: PlatformKey) -> "KeyRing":
        """A ring that holds these too."""
        return evolve(self, keys={**self.keys, **{canonical(key.serial): key for key in keys}})

    def newest(self, now: datetime) -> PlatformKey | None:
        """The key to encrypt with and to ask for: the public key, else the certificate last in effect."""
        held = [key for key in self.keys.values() if not key.expired(now)]
        return max(held, key=lambda key: key.effective_at or FOREVER, default=None)


def check(headers: Mapping[str, str], body: bytes, ring: KeyRing, now: datetime) -> str:
    """Verify an answer or notification before anyone parses it; return the serial that signed it.

    The checks and their order are those of v3.md section 5; the first that fails is Rejected's reason.
    """
    given = {name.lower(): value for name, value in headers.items()}
    names = ("wechatpay-timestamp", "wechatpay-nonce", "wechatpay-signature", "wechatpay-serial")
    if not all(given.get(name) for name in names):
        raise Rejected("missing_header")
    timestamp, nonce, signature, serial = (given[name] for name in names)
    if given.get("wechatpay-signature-type", SCHEME) != SCHEME:
        raise Rejected("type")
    if not within_window(timestamp, now):
        raise Rejected("clock")
    if signature.startswith(PROBE_PREFIX):
        raise Rejected("probe")
    key = ring.find(serial, now)
    if key is None:
        raise Rejected("serial")
    if not verify(key.public_key, response_message(timestamp, nonce, body), signature):
        raise Rejected("signature")
    return key.serial


def within_window(timestamp: str, now: datetime) -> bool:
    """Whether these unix seconds are less than 300 s away, before or after."""
    if not SECONDS.fullmatch(timestamp):
        return False
    return abs(now.timestamp() - int(timestamp)) < WINDOW_SECONDS


# ------------------------------------------------------------------ what is sealed


def open_resource(apiv3_key: str, nonce: str, associated_data: str | None, ciphertext: str) -> bytes:
    """Decrypt a notification's resource or a certificate; raise Rejected("decrypt") (R32: APIv3 key?)."""
    try:
        sealed = base64.b64decode(ciphertext, validate=True)
        return AESGCM(apiv3_key.encode()).decrypt(nonce.encode(), sealed, (associated_data or "").encode())
    except (InvalidTag, ValueError):
        raise Rejected("decrypt") from None


def seal_resource(apiv3_key: str, nonce: str, associated_data: str | None, plain: bytes) -> str:
    """Encrypt as WeChat does; the nonce is 12 ASCII characters and never used twice."""
    sealed = AESGCM(apiv3_key.encode()).encrypt(nonce.encode(), plain, (associated_data or "").encode())
    return base64.b64encode(sealed).decode()


def read_certificates(body: bytes, apiv3_key: str) -> list[PlatformKey]:
    """The platform certificates of a `/v3/certificates` answer, each with its PEM.

    Raise Rejected: decrypt (the APIv3 key?), serial (the PEM is another's), malformed.
    """
    try:
        return [_opened(item, apiv3_key) for item in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise Rejected("malformed") from None


def _opened(item: dict[str, Any], apiv3_key: str) -> PlatformKey:
    box = item["encrypt_certificate"]
    if box["algorithm"] != ALGORITHM:
        raise Rejected("malformed")
    pem = open_resource(apiv3_key, box["nonce"], box.get("associated_data"), box["ciphertext"])
    key = load_certificate(pem)
    if canonical(item["serial_no"]) != canonical(key.serial):
        raise Rejected("serial")
    return evolve(key, effective_at=_moment(item["effective_time"]), expires_at=_moment(item["expire_time"]))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise Rejected("malformed")
    return moment.astimezone(UTC)


def encrypt_field(public_key: RSAPublicKey, plain: str) -> str:
    """Seal a sensitive field; raise ValueError beyond 214 bytes for a 2048-bit key (v3.md section 5)."""
    return base64.b64encode(public_key.encrypt(plain.encode(), OAEP)).decode()


def decrypt_field(private_key: RSAPrivateKey, sealed: str) -> str:
    """Open a field encrypted for us; raise Rejected("decrypt") if it was not."""
    try:
        return private_key.decrypt(base64.b64decode(sealed, validate=True), OAEP).decode()
    except (binascii.Error, ValueError):
        raise Rejected("decrypt") from None


# ------------------------------------------------------------------ PEM files


def load_private_key(pem: bytes) -> RSAPrivateKey:
    """The merchant's key (`apiclient_key.pem`); raise ValueError for anything else."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("not an unencrypted RSA private key in PEM form") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("not an RSA private key")  # noqa: TRY004 - to callers the file's content is wrong
    return key


def load_public_key(pem: bytes) -> RSAPublicKey:
    """The WeChat Pay public key (`pub_key.pem`); raise ValueError for anything else."""
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not an RSA public key in PEM form") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA public key")  # noqa: TRY004 - to callers the file's content is wrong
    return key


def load_certificate(pem: bytes) -> PlatformKey:
    """A certificate's serial (upper-case hex), key and dates; raise ValueError for anything else.

    Serves for `apiclient_cert.pem` too, whose serial goes into each Authorization.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a certificate in PEM form") from None
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not a certificate of an RSA key")  # noqa: TRY004 - the file's content is wrong
    return PlatformKey(
        serial=f"{certificate.serial_number:X}",
        public_key=key,
        effective_at=certificate.not_valid_before_utc,
        expires_at=certificate.not_valid_after_utc,
        pem=pem,
    )
