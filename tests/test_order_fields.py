"""What cannot be an order at all: its number, payer, amount and texts."""

from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import (
    FeeOutOfRange,
    InvalidAttach,
    InvalidBody,
    InvalidFee,
    InvalidOpenid,
    InvalidOrder,
)
from tests.shop import a_draft

BODIES = ["t", "茶" * 42 + "x", "x" * 127, "茶 😀", "a  b", "]]>", "<&>'\""]
NO_BODIES = [
    "\U00010000",
    "",
    "茶" * 42 + "xx",
    "茶" * 43,
    "x" * 128,
    "😀" * 5,
    " ",
    "\u3000",
    "😀 ",
    "a\nb",
    "a\tb",
    "a\rb",
]
UNPRINTABLE = ["a\x00", "\x1fa", "a\x7f", "a\ud800", "a\udfff", "a\ufffe", "a\uffff"]


@pytest.mark.parametrize("body", BODIES)
def test_a_body_is_one_line_of_127_bytes_at_most(body):
    assert a_draft(body=body).body == body


@pytest.mark.parametrize("body", NO_BODIES + UNPRINTABLE, ids=ascii)
def test_a_body_that_wechat_or_a_payer_could_not_read_is_refused(body):
    with pytest.raises(InvalidBody) as refusal:
        a_draft(body=body)
    assert (refusal.value.code, refusal.value.field) == ("BODY_INVALID", "body")


@pytest.mark.parametrize("attach", ["", "x" * 127, "茶" * 42 + "x", "😀" * 31, "a\n\tb", " "], ids=ascii)
def test_an_attach_is_127_bytes_at_most(attach):
    assert a_draft(attach=attach).attach == attach


@pytest.mark.parametrize("attach", ["x" * 128, "茶" * 43, "😀" * 32, *UNPRINTABLE], ids=ascii)
def test_an_attach_that_cannot_be_carried_is_refused(attach):
    with pytest.raises(InvalidAttach) as refusal:
        a_draft(attach=attach)
    assert (refusal.value.code, refusal.value.field) == ("ATTACH_INVALID", "attach")


@given(st.text(st.characters(codec=None), max_size=45))
def test_any_text_is_refused_by_name_or_survives_the_trip_through_xml(text):
    for field, refusal in (("body", InvalidBody), ("attach", InvalidAttach)):
        try:
            kept = getattr(a_draft(**{field: text}), field)
        except refusal:
            continue
        xml = f"<xml>{escape(kept, {chr(13): '&#13;'})}</xml>"
        assert (ET.fromstring(xml).text or "") == text  # noqa: S314 - our own words
        assert len(text.encode()) <= 127


@pytest.mark.parametrize("openid", ["o", "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "-" * 128])
def test_an_openid_is_up_to_128_plain_characters(openid):
    assert a_draft(openid=openid).openid == openid


@pytest.mark.parametrize("openid", ["", "o" * 129, "客人", "a b", "o1\n", "\u0661", "o'1"], ids=ascii)
def test_what_is_no_openid_is_refused(openid):
    with pytest.raises(InvalidOpenid) as refusal:
        a_draft(openid=openid)
    assert (refusal.value.code, refusal.value.field) == ("OPENID_INVALID", "openid")


@pytest.mark.parametrize("number", ["PAY_-1", "0" * 32, "PAY17041643450000000001"])
def test_an_order_number_is_6_to_32_plain_characters(number):
    assert a_draft(out_trade_no=number).out_trade_no == number


@pytest.mark.parametrize("number", ["", "PAY01", "0" * 33, "PAY|001", "PAY 001", "PAY001\n", "订单号码零一"])
def test_what_is_no_order_number_is_refused(number):
    with pytest.raises(InvalidOrder, match="out_trade_no"):
        a_draft(out_trade_no=number)


@pytest.mark.parametrize(
    ("total_fee", "refusal"),
    [(True, InvalidFee), (1.0, InvalidFee), ("100", InvalidFee), (None, InvalidFee)]
    + [(fee, FeeOutOfRange) for fee in (0, -1, 1_000_001, 10**30)],
)
def test_an_order_is_for_whole_fen_within_the_limits(total_fee, refusal):
    with pytest.raises(refusal) as refused:
        a_draft(total_fee=total_fee)
    assert refused.value.field == "total_fee"
