"""Where a list goes on: a position as an opaque word in a URL."""

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta

from adapters.http.errors import InvalidCursor
from application.ports import Position
from domain.order import OUT_TRADE_NO

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CURSOR_MAX = 128  # characters; the longest we hand out has 67
WORDS = re.compile(r"([0-9]{1,17})\.(.*)\Z")  # microseconds since 1970 UTC, out_trade_no


def write_cursor(position: Position) -> str:
    """Base64url without padding, exact to the microsecond."""
    microseconds = (position.created_at - EPOCH) // timedelta(microseconds=1)
    return urlsafe_b64encode(f"{microseconds}.{position.out_trade_no}".encode()).rstrip(b"=").decode()


def read_cursor(cursor: str) -> Position:
    """Raise InvalidCursor unless it is exactly what `write_cursor` writes."""
    try:
        text = urlsafe_b64decode(cursor[:CURSOR_MAX] + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    words = WORDS.match(text)
    if not words or not OUT_TRADE_NO.match(words[2]):
        raise InvalidCursor("cursor is not one of ours")
    position = Position(EPOCH + timedelta(microseconds=int(words[1])), words[2])
    if write_cursor(position) != cursor:
        raise InvalidCursor("cursor is not written as ours are")
    return position
