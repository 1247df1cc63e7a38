"""For schemathesis, in its own process: what JSON Schema can not say of a request is not sent as valid."""

import schemathesis

from adapters.http.cursor import read_cursor
from domain.errors import InvalidOrder
from domain.order import valid_attach, valid_body
from domain.refund import valid_reason

# JSON Schema counts characters; WeChat counts bytes of UTF-8 and takes no control characters.
TEXTS = {"body": valid_body, "attach": valid_attach, "reason": valid_reason}


@schemathesis.hook
def filter_case(_context, case) -> bool:
    """Keep every case that is wrong on purpose; of those meant to be right, the ones that are."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return True
    try:
        check_cursor(case.query or {})
        if isinstance(case.body, dict):
            check_body(case.body)
    except InvalidOrder:
        return False
    return True


def check_cursor(query):
    """A cursor is one that we have handed out."""
    if "cursor" in query:
        read_cursor(query["cursor"])


def check_body(body):
    """To JSON Schema 100.0 is an integer; to us it is no number of fen (R8)."""
    for name, value in body.items():
        if isinstance(value, float):
            raise InvalidOrder(f"{name} is written as a float")
        if isinstance(value, str) and name in TEXTS:
            TEXTS[name](None, None, value)
