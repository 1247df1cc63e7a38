"""WeChat's messages as they are kept for the history: readable, bounded, without what identifies a payer."""

import json
import re
from collections.abc import Mapping
from typing import Any

from adapters.wechat import v2_wire
from adapters.wechat.v2_wire import MalformedXml

EVIDENCE_BYTES_MAX = 8 * 1024
OPENID_SHOWN = 6  # letters: enough to recognise a payer one knows

# Payers, and where their money went; signatures and nonces prove nothing once they are verified.
SHORTENED = frozenset({"openid", "sub_openid", "sp_openid"})
HIDDEN = frozenset({"user_received_account", "refund_recv_accout", "refund_recv_accout_0"})
LEFT_OUT = frozenset({"sign", "nonce_str"})
AN_OPENID = re.compile(r"\bo[0-9A-Za-z_-]{27}\b")  # where no field names it

# What tells how a message came and who says to have signed it; nothing else is kept of a header.
HEADERS_KEPT = frozenset({"content-type", "content-length", "date", "request-id", "user-agent"})
HEADER_CHARACTERS_MAX = 512  # a signature has 344
HEADERS_MAX = 16


def shown(message: Mapping[str, Any]) -> str:
    """The message as one JSON object, at most 8 KiB of it."""
    return cut(json.dumps(_masked(message), ensure_ascii=False))


def shown_raw(body: bytes) -> str:
    """Any message as it came, verified or not: its fields where it has some, else its text, both masked."""
    try:
        message = json.loads(body) if body.lstrip()[:1] == b"{" else v2_wire.read(body)
        return masked(shown(message))
    except (MalformedXml, ValueError, RecursionError, AttributeError):
        return cut(masked(body.decode(errors="replace")))


def masked(text: str) -> str:
    """The text with openids cut to a few letters."""
    return AN_OPENID.sub(lambda found: f"{found[0][:OPENID_SHOWN]}…", text)


def shown_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that explain a failure, each bounded, in lower case; never one that carries a key."""
    kept = {
        # A byte that is no UTF-8 comes as half a surrogate, which no database takes.
        name.lower(): value[:HEADER_CHARACTERS_MAX].encode(errors="replace").decode()
        for name, value in headers.items()
        if name.lower() in HEADERS_KEPT or (name.lower().startswith("wechatpay-") and len(name) <= 40)
    }
    return dict(sorted(kept.items())[:HEADERS_MAX])


def cut(text: str) -> str:
    """At most 8 KiB of the text, whole characters."""
    return text.encode(errors="replace")[:EVIDENCE_BYTES_MAX].decode(errors="ignore")


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _field(name, inner) for name, inner in value.items() if name not in LEFT_OUT}
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    return value


def _field(name: str, value: Any) -> Any:
    if name in SHORTENED and isinstance(value, str):
        return f"{value[:OPENID_SHOWN]}…"
    return "…" if name in HIDDEN else _masked(value)
