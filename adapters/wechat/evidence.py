"""WeChat's messages as they are kept for the history: readable, bounded, without what identifies a payer."""

import json
from collections.abc import Mapping
from typing import Any

EVIDENCE_BYTES_MAX = 8 * 1024
OPENID_SHOWN = 6  # letters: enough to recognise a payer one knows

# Payers, and where their money went; signatures and nonces prove nothing once they are verified.
SHORTENED = frozenset({"openid", "sub_openid", "sp_openid"})
HIDDEN = frozenset({"user_received_account", "refund_recv_accout", "refund_recv_accout_0"})
LEFT_OUT = frozenset({"sign", "nonce_str"})


def shown(message: Mapping[str, Any]) -> str:
    """The message as one JSON object, at most 8 KiB of it."""
    return cut(json.dumps(_masked(message), ensure_ascii=False))


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
