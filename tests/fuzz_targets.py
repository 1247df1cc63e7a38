"""What strangers' bytes reach first. Each target takes any bytes; only the declared refusals are caught."""

import contextlib
import json
from datetime import UTC, datetime

from attrs import frozen
from multidict import CIMultiDict

from adapters.http.address import plain, told_address
from adapters.http.cursor import read_cursor, write_cursor
from adapters.http.errors import BadRequest, InvalidCursor
from adapters.http.idempotency import HEADER, KEY_MAX, keyed
from adapters.http.quotes import Quotes
from adapters.http.routes import ANYONE, Call, Caller, Who
from adapters.http.shapes import CreateOrder
from adapters.http.tokens import Tokens
from adapters.http.trace import Trace
from adapters.wechat import v2_wire, v3_wire, v3_words
from adapters.wechat.errors import Unreadable
from application.access import (
    Quote,
    QuoteExpired,
    QuoteInvalid,
    QuoteMismatch,
    TokenExpired,
    Unauthenticated,
)
from entrypoints.faults import Faults
from entrypoints.settings import SETTINGS, Settings, load
from tests.wechat_side import API_KEY, API_V3_KEY, certificate_pem

NOW = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
SECRET = "fuzz-secret-of-more-than-32-characters"
TOKENS = Tokens(secrets=(SECRET,), appid="wx1234567890abcdef", hours=1, clock=lambda: NOW)
QUOTES = Quotes(secrets=(SECRET,), clock=lambda: NOW)
RING = v3_wire.KeyRing().with_keys(v3_wire.load_certificate(certificate_pem()))
# These name files, and a fuzzer has no business in them.
FILES = ("CERTS_DIR", "TLS_CERT", "TLS_KEY", "DATABASE")


def v2_body(data):
    """Flat XML, or MalformedXml; what was read can be written and read again."""
    with contextlib.suppress(v2_wire.MalformedXml):
        fields = v2_wire.read(data)
        assert v2_wire.verify(fields, API_KEY, "MD5") in {True, False}
        if sum(map(len, fields.values())) < 1000:
            again = v2_wire.read(v2_wire.write(fields))
            assert again == {name: value for name, value in fields.items() if value}


def v2_refund(data):
    """A sealed box, or Sealed; what is inside is XML, or MalformedXml."""
    with contextlib.suppress(v2_wire.Sealed, v2_wire.MalformedXml):
        v2_wire.read(v2_wire.open_req_info(data.decode("latin-1"), API_KEY), root="root")


def v3_message(data):
    """Nothing a stranger wrote is taken for WeChat's."""
    head, _, body = data.partition(b"\n\n")
    lines = head.decode("utf-8", "surrogateescape").split("\n")
    headers = dict(zip(("Timestamp", "Nonce", "Signature", "Serial", "Signature-Type"), lines, strict=False))
    try:
        v3_wire.check({f"Wechatpay-{name}": value for name, value in headers.items()}, body, RING, NOW)
    except v3_wire.Rejected:
        return
    raise AssertionError("a forged signature was believed")


def v3_resource(data):
    """A sealed resource, or Rejected."""
    nonce, _, rest = data.decode("utf-8", "replace").partition("|")
    associated, _, ciphertext = rest.partition("|")
    try:
        v3_wire.open_resource(API_V3_KEY, nonce, associated, ciphertext)
    except v3_wire.Rejected:
        return
    raise AssertionError("a forged resource was opened")


def v3_document(data):
    """What a rightly signed message says, or Unreadable."""
    with contextlib.suppress(Unreadable):
        v3_words.trade_of(v3_words.parse(data))
    with contextlib.suppress(Unreadable):
        v3_words.refund_of(v3_words.parse(data), "refund_status")


def v3_certificates(data):
    """The list of platform certificates, or Rejected."""
    with contextlib.suppress(v3_wire.Rejected):
        v3_wire.read_certificates(data, API_V3_KEY)


def settings(data):
    """Any variables: settings, or Faults with a line for each; never a value in a fault."""
    lines = data.decode("utf-8", "surrogateescape").replace("\0", "").split("\n")
    given = {}
    for line in lines:
        number, _, value = line.partition("=")
        name = SETTINGS[sum(map(ord, number)) % len(SETTINGS)].name
        if not name.endswith(FILES):
            given[name] = value
    faults = []
    try:
        assert isinstance(load(given), Settings)
    except Faults as found:
        faults = found.faults
    assert all("\n" not in str(fault) for fault in faults)


def cursor(data):
    """One of ours, or InvalidCursor."""
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(InvalidCursor):
        assert write_cursor(read_cursor(text)) == text


def token(data):
    """No stranger makes a token, or a quote."""
    text = data.decode("latin-1")
    with contextlib.suppress(Unauthenticated, TokenExpired):
        raise AssertionError(f"a forged token was believed: {TOKENS.read(text)}")
    wish = CreateOrder(openid="o1", total_fee=1, body="x", quote=text)
    with contextlib.suppress(QuoteInvalid, QuoteExpired, QuoteMismatch):
        found = QUOTES.check(wish, Caller(kind=Who.PAYER, name="payer", openid="o1"))
        raise AssertionError(f"a forged quote was believed: {isinstance(found, Quote)}")


@frozen
class Request:
    """As much of a request as the reader of Idempotency-Key looks at."""

    headers: CIMultiDict
    path: str = "/api/wechat/pay/create"


def idempotency_key(data):
    """A key that can be read, or BadRequest."""
    headers = CIMultiDict((HEADER, each) for each in data.decode("utf-8", "surrogateescape").split("\n"))
    call = Call(request=Request(headers), caller=ANYONE, body={}, parameters=None, trace=Trace("-"))
    with contextlib.suppress(BadRequest):
        found = keyed(call, lambda outcome: outcome)
        assert found is None or 0 < len(found.key) <= KEY_MAX
        assert json.dumps(found.key)


def address(data):
    """Always an address in its usual spelling."""
    found = told_address("10.0.0.1", data.decode("utf-8", "surrogateescape").split("\n"), RING_OF_PROXIES)
    assert plain(found) == found


RING_OF_PROXIES = next(s for s in SETTINGS if s.name.endswith("TRUSTED_PROXIES")).read("10.0.0.0/8,fd00::/8")

TARGETS = {
    each.__name__: each
    for each in (
        v2_body,
        v2_refund,
        v3_message,
        v3_resource,
        v3_document,
        v3_certificates,
        settings,
        cursor,
        token,
        idempotency_key,
        address,
    )
}
NAMES = tuple(TARGETS)


def any_target(data):
    """The first byte chooses; so one run goes over all of them."""
    if data:
        TARGETS[NAMES[data[0] % len(NAMES)]](data[1:])
