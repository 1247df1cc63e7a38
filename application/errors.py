"""Refusals that belong to a use case rather than to an order.

PaymentError
├── WechatRefused     WeChat definitely said no
├── WechatSilent      WeChat's answer is unknown: it may have acted
├── Busy              too many callers changed the same order at once
└── StoreUnavailable  the database can not be read or written
"""

from application.ports import Refused, Unknown
from domain.errors import PaymentError


class WechatRefused(PaymentError):
    """WeChat definitely said no; `answer` tells in its words."""

    code = "WECHAT_REFUSED"

    def __init__(self, number: str, answer: Refused) -> None:
        super().__init__(f"{number}: WeChat refused: {answer}")
        self.number = number  # out_trade_no or out_refund_no
        self.answer = answer


class WechatSilent(PaymentError):
    """WeChat may have acted or not; `answer` tells what little came back."""

    code = "WECHAT_NO_ANSWER"

    def __init__(self, number: str, answer: Unknown) -> None:
        super().__init__(f"{number}: no certain answer from WeChat: {answer}")
        self.number = number  # out_trade_no or out_refund_no
        self.answer = answer


class Busy(PaymentError):
    """The order kept changing under us; the same call again is harmless."""

    code = "BUSY"


class StoreUnavailable(PaymentError):
    """The store did not take or give anything; what was asked for is not recorded."""

    code = "STORE_UNAVAILABLE"
