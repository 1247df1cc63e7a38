"""Every refusal of the domain, named for what is wrong.

PaymentError
├── InvalidOrder          what was asked for cannot be an order at all
│   ├── InvalidFee        the amount is not a whole number of fen
│   ├── FeeOutOfRange     the amount is outside the limits of one payment
│   ├── InvalidBody       the description cannot be shown to a payer
│   ├── InvalidAttach     the merchant's own data cannot be carried
│   ├── InvalidOpenid     not an openid
│   ├── InvalidExpiry     the time to pay is outside WeChat's limits
│   ├── InvalidRefundNo   not an out_refund_no WeChat would take
│   └── InvalidReason     the reason of a refund cannot be shown to a payer
├── Unknown               we hold no such thing
│   ├── OrderNotFound
│   └── RefundNotFound
├── Discrepancy           a verified word of WeChat contradicts what we hold: for a person to look at
│   ├── FeeMismatch       another amount, or another currency
│   ├── PayeeMismatch     another appid or mch_id
│   ├── TradeConflict     another transaction_id
│   └── RefundConflict    another amount, another end, or more than was paid
├── NotNow                the order's state forbids it
│   ├── OrderPaid         close it? refund it instead
│   ├── OrderEnded        nobody can pay it any more
│   ├── OrderStillOpen    WeChat may yet take the payment
│   └── RefundNotAllowed
│       ├── RefundExceedsPayment
│       ├── TooManyRefunds
│       ├── RefundTooLate
│       └── RefundNumberReused
└── StaleOrder            someone else saved this order first: read it again
"""


class PaymentError(Exception):
    """Root of all refusals; `code` is the part callers may rely on."""

    code = "PAYMENT_ERROR"


class InvalidOrder(PaymentError):
    """`field` names the field of the request that is meant."""

    code = "INVALID_ORDER"
    field = ""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field or type(self).field


class InvalidFee(InvalidOrder):
    code = "FEE_INVALID"
    field = "total_fee"


class FeeOutOfRange(InvalidOrder):
    code = "FEE_OUT_OF_RANGE"
    field = "total_fee"


class InvalidBody(InvalidOrder):
    code = "BODY_INVALID"
    field = "body"


class InvalidAttach(InvalidOrder):
    code = "ATTACH_INVALID"
    field = "attach"


class InvalidOpenid(InvalidOrder):
    code = "OPENID_INVALID"
    field = "openid"


class InvalidExpiry(InvalidOrder):
    code = "EXPIRY_INVALID"
    field = "expire_minutes"


class InvalidRefundNo(InvalidOrder):
    code = "REFUND_NO_INVALID"
    field = "out_refund_no"


class InvalidReason(InvalidOrder):
    code = "REASON_INVALID"
    field = "reason"


class Unknown(PaymentError):
    code = "NOT_FOUND"


class OrderNotFound(Unknown):
    code = "ORDER_NOT_FOUND"


class RefundNotFound(Unknown):
    code = "REFUND_NOT_FOUND"


class Discrepancy(PaymentError):
    code = "DISCREPANCY"


class FeeMismatch(Discrepancy):
    code = "FEE_MISMATCH"


class PayeeMismatch(Discrepancy):
    code = "PAYEE_MISMATCH"


class TradeConflict(Discrepancy):
    code = "TRADE_CONFLICT"


class RefundConflict(Discrepancy):
    code = "REFUND_CONFLICT"


class NotNow(PaymentError):
    code = "STATE_CONFLICT"


class OrderPaid(NotNow):
    code = "ORDER_PAID"


class OrderEnded(NotNow):
    code = "ORDER_ENDED"


class OrderStillOpen(NotNow):
    code = "ORDER_STILL_OPEN"


class RefundNotAllowed(NotNow):
    code = "REFUND_NOT_ALLOWED"


class RefundExceedsPayment(RefundNotAllowed):
    code = "REFUND_EXCEEDS_PAYMENT"


class TooManyRefunds(RefundNotAllowed):
    code = "TOO_MANY_REFUNDS"


class RefundTooLate(RefundNotAllowed):
    code = "REFUND_TOO_LATE"


class RefundNumberReused(RefundNotAllowed):
    code = "REFUND_NUMBER_REUSED"


class StaleOrder(PaymentError):
    code = "STALE_ORDER"
