"""Money is whole fen, within limits, and meets yuan without losing any."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import FeeOutOfRange, InvalidFee
from domain.fee import FEE_MAX, FEE_MIN, FeeLimits, check_fee, fen, yuan

NO_FEE = [True, False, 1.0, 100.0, "100", None, b"1", [1], 1 + 0j]
OUT_OF_RANGE = [0, -1, -100, 1_000_001, 10**30]


def test_the_limits_are_those_of_the_contract():
    assert (FEE_MIN, FEE_MAX) == (1, 1_000_000)
    assert (FeeLimits().low, FeeLimits().high) == (1, 1_000_000)


@pytest.mark.parametrize("total_fee", [1, 2, 100, 999_999, 1_000_000])
def test_whole_fen_within_the_limits_are_taken_both_ends_included(total_fee):
    check_fee(total_fee, "total_fee")
    FeeLimits().check(total_fee)


@pytest.mark.parametrize("total_fee", NO_FEE, ids=repr)
def test_what_is_not_an_integer_is_no_fee(total_fee):
    with pytest.raises(InvalidFee, match=type(total_fee).__name__) as refusal:
        FeeLimits().check(total_fee)
    assert (refusal.value.code, refusal.value.field) == ("FEE_INVALID", "total_fee")


@pytest.mark.parametrize("total_fee", OUT_OF_RANGE)
def test_a_fee_outside_the_limits_is_refused(total_fee):
    with pytest.raises(FeeOutOfRange, match="from 1 to 1000000 fen") as refusal:
        FeeLimits().check(total_fee)
    assert (refusal.value.code, refusal.value.field) == ("FEE_OUT_OF_RANGE", "total_fee")


def test_a_refusal_names_the_field_that_is_meant():
    with pytest.raises(InvalidFee, match="refund_fee") as refusal:
        check_fee("60", "refund_fee")
    assert refusal.value.field == "refund_fee"
    with pytest.raises(FeeOutOfRange, match="refund_fee") as refusal:
        check_fee(0, "refund_fee")
    assert refusal.value.field == "refund_fee"


@given(
    ends=st.tuples(st.integers(1, 1000), st.integers(1, 1000)).map(sorted), total_fee=st.integers(-5, 1005)
)
def test_a_shop_takes_exactly_what_is_within_its_own_limits(ends, total_fee):
    low, high = ends
    limits = FeeLimits(low=low, high=high)
    if low <= total_fee <= high:
        limits.check(total_fee)
    else:
        with pytest.raises(FeeOutOfRange, match=f"from {low} to {high} fen"):
            limits.check(total_fee)


@pytest.mark.parametrize("limits", [{"low": 0}, {"low": -1}, {"high": 1_000_001}, {"high": 10**30}])
def test_a_shop_can_only_narrow_the_limits(limits):
    with pytest.raises(FeeOutOfRange) as refusal:
        FeeLimits(**limits)
    assert refusal.value.field == next(iter(limits))


@pytest.mark.parametrize("limits", [{"low": True}, {"low": "1"}, {"high": 100.0}, {"high": None}])
def test_the_limits_of_a_shop_are_whole_fen_too(limits):
    with pytest.raises(InvalidFee):
        FeeLimits(**limits)


def test_limits_that_leave_no_fee_at_all_are_refused():
    FeeLimits(low=100, high=100).check(100)
    with pytest.raises(FeeOutOfRange, match=r"101 fen.*100 fen"):
        FeeLimits(low=101, high=100)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0.01", 1),
        ("0.29", 29),
        ("1.15", 115),
        ("45.0", 4500),
        ("-0.02000", -2),
        ("1234567.89", 123_456_789),
        ("0.04000", 4),
        ("100", 10_000),
        (" 12.34\r\n", 1234),
    ],
)
def test_yuan_of_a_bill_are_exactly_so_many_fen(text, amount):
    assert fen(text) == amount


@pytest.mark.parametrize("text", ["0.04350", "0.001", "1.005", "-0.019"])
def test_part_of_a_fen_is_refused(text):
    with pytest.raises(InvalidFee, match="not a whole number of fen"):
        fen(text)


@pytest.mark.parametrize(
    "text", ["", " ", "-", "twelve", "1,234.56", "0x10", "12.3.4", "NaN", "sNaN", "Infinity", "-inf"]
)
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(InvalidFee):
        fen(text)


def test_a_refused_amount_is_quoted_in_part_only():
    with pytest.raises(InvalidFee) as refusal:
        fen("x" * 10_000)
    assert len(str(refusal.value)) < 100


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0.00"), (1, "0.01"), (29, "0.29"), (100, "1.00"), (1234, "12.34"), (-1, "-0.01"), (-250, "-2.50")],
)
def test_fen_are_written_as_yuan_with_two_decimals(amount, text):
    assert yuan(amount) == text


@given(st.integers(-(10**15), 10**15))
def test_yuan_and_fen_agree(amount):
    assert fen(yuan(amount)) == amount
    assert fen(yuan(amount) + "000") == amount


@pytest.mark.parametrize(
    "text",
    [
        "1.00000000000000000000000000001",
        "99999999999999999999999999999999.99",
        "1e999999",
        "1_000.00",
        "１２.３４",
        "1e2",
        "+1",
    ],
)
def test_what_no_bill_would_print_is_refused(text):
    with pytest.raises(InvalidFee):
        fen(text)
