"""Money, counted in fen. The only place where yuan and fen meet."""

import re
from decimal import Decimal

from attrs import Attribute, field, frozen

from domain.errors import FeeOutOfRange, InvalidFee

FEE_MIN = 1  # 0.01 yuan
FEE_MAX = 1_000_000  # 10,000 yuan

# No bill prints an amount in another way; and of this many digits a Decimal loses none.
YUAN = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,10})?")


def check_fee(value: object, name: str, low: int = FEE_MIN, high: int = FEE_MAX) -> None:
    """Raise InvalidFee or FeeOutOfRange unless `value` is whole fen from low to high, both included (R8)."""
    if type(value) is not int:  # bool is an int to isinstance, and True is not one fen
        raise InvalidFee(f"{name} must be a whole number of fen, not {type(value).__name__}", field=name)
    if not low <= value <= high:
        raise FeeOutOfRange(f"{name} must be from {low} to {high} fen", field=name)


def valid_fee(_owner: object, attribute: "Attribute[int]", value: object) -> None:
    """An attrs validator: whole fen, within the limits of one payment."""
    check_fee(value, attribute.name)


@frozen
class FeeLimits:
    """The shop's own limits in fen; they can only narrow WeChat's and the contract's."""

    low: int = field(default=FEE_MIN, validator=valid_fee)
    high: int = field(default=FEE_MAX, validator=valid_fee)

    def __attrs_post_init__(self) -> None:
        if self.low > self.high:
            raise FeeOutOfRange(f"the least fee ({self.low} fen) is above the greatest ({self.high} fen)")

    def check(self, total_fee: object) -> None:
        """Raise InvalidFee or FeeOutOfRange unless the shop takes this amount of fen."""
        check_fee(total_fee, "total_fee", self.low, self.high)


def yuan(fen: int) -> str:
    """1234 fen are '12.34' yuan, as people and bills write them; exact."""
    sign = "-" if fen < 0 else ""
    return f"{sign}{abs(fen) // 100}.{abs(fen) % 100:02d}"


def fen(yuan: str) -> int:
    """'12.34' yuan are 1234 fen, exactly (bills.md section 1).

    Trailing zeros are fine ('0.04000'), part of a fen is not: raises InvalidFee.
    """
    if not YUAN.fullmatch(yuan.strip()):
        raise InvalidFee(f"not an amount in yuan: {yuan[:20]!r}")
    value = Decimal(yuan.strip()) * 100
    if value != value.to_integral_value():
        raise InvalidFee(f"not a whole number of fen: {yuan[:20]!r} yuan")
    return int(value)
