"""V2's XML and signatures, beyond the published vectors."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapters.wechat import v2_wire
from adapters.wechat.v2_wire import MalformedXml, Sealed

KEY = "192006250b4c09247ec02edce69f6a2d"
XML_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\x7f").filter(
        lambda letter: not v2_wire.ILLEGAL.match(letter)
    )
)
FIELDS = st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True), XML_TEXT, max_size=8)
SIGN_TYPES = st.sampled_from(["MD5", "HMAC-SHA256"])


@given(FIELDS)
def test_what_was_written_is_read_and_only_empty_fields_are_gone(fields):
    assert v2_wire.read(v2_wire.write(fields)) == {name: value for name, value in fields.items() if value}


@given(FIELDS, SIGN_TYPES)
def test_a_signature_survives_the_wire(fields, sign_type):
    sent = {**fields, "sign": v2_wire.sign(fields, KEY, sign_type)}
    assert v2_wire.verify(v2_wire.read(v2_wire.write(sent)), KEY, sign_type)


@given(FIELDS, SIGN_TYPES, st.data())
def test_one_changed_letter_breaks_the_signature(fields, sign_type, data):
    fields = {name: value for name, value in fields.items() if value and name != "sign"}
    assume(fields)
    name = data.draw(st.sampled_from(sorted(fields)))
    other = data.draw(XML_TEXT.filter(lambda value: value != fields[name]))
    changed = {**fields, "sign": v2_wire.sign(fields, KEY, sign_type), name: other}
    assert not v2_wire.verify(changed, KEY, sign_type)


@given(FIELDS, st.integers(0), st.integers(1, 255))
def test_a_flipped_byte_is_never_taken_for_the_same_message(fields, at, flip):
    fields = {name: value for name, value in fields.items() if value and name != "sign"}
    body = bytearray(v2_wire.write({**fields, "sign": v2_wire.sign(fields, KEY)}))
    body[at % len(body)] ^= flip
    try:
        found = v2_wire.read(bytes(body))
    except MalformedXml:
        return
    sent = {**fields, "sign": v2_wire.sign(fields, KEY)}
    assert found == sent or not v2_wire.verify(found, KEY, "MD5")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body):
    try:
        fields = v2_wire.read(body)
    except MalformedXml as refusal:
        fields = {"reason": refusal.reason}
    assert all(isinstance(value, str) for value in fields.values())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "malformed"),
        (b"hello", "malformed"),
        ("<xml><a>茶</a></xml>".encode("gbk"), "malformed"),
        ("<xml><a>1</a></xml>".encode("utf-16"), "malformed"),
        (b"<xml><a>\x00</a></xml>", "malformed"),
        (b"<xml><a>1</a></xml><xml/>", "malformed"),
        (b"<xml>1</xml>", "malformed"),
        (b"<xml><a>1</a>2</xml>", "malformed"),
        (b'<xml><a b="1">2</a></xml>', "malformed"),
        (b'<xml b="1"><a>2</a></xml>', "malformed"),
        (b'<xml xmlns="urn:x"><a>2</a></xml>', "malformed"),
        (b'<xml xmlns:y="urn:x"><y:a>2</y:a></xml>', "malformed"),
        (b"<xml><y:a>2</y:a></xml>", "malformed"),
        (b"<xml><total_fee>1<!-- -->00</total_fee></xml>", "malformed"),
        (b"<xml><!-- a --><total_fee>1</total_fee></xml>", "malformed"),
        (b"<xml><?php evil() ?></xml>", "malformed"),
        (b"<xml><a>&undeclared;</a></xml>", "malformed"),
        (b"<xml><a><b>1</b></a></xml>", "nested"),
        (b"<xml><a>1</a><a></a></xml>", "duplicate"),
        (b"<root><a>1</a></root>", "root"),
        (b"<!DOCTYPE xml><xml><a>1</a></xml>", "doctype"),
        (b'<!DOCTYPE xml SYSTEM "http://127.0.0.1/x.dtd"><xml><a>1</a></xml>', "doctype"),
        (b'<!DOCTYPE xml [<!ATTLIST a b CDATA "1">]><xml><a>1</a></xml>', "doctype"),
        (b"<xml><a>" + b"x" * 10_000_000 + b"</a></xml>", "size"),
    ],
)
def test_what_is_not_flat_xml_is_refused(body, reason):
    with pytest.raises(MalformedXml) as refusal:
        v2_wire.read(body)
    assert refusal.value.reason == reason


def test_a_declared_encoding_does_not_change_how_bytes_are_read():
    body = b'<?xml version="1.0" encoding="GBK"?><xml><a>\xe8\x8c\xb6</a></xml>'
    assert v2_wire.read(body) == {"a": "茶"}


def test_whitespace_inside_a_value_is_kept():
    assert v2_wire.read(b"<xml>\n <a> 1 \n</a>\n</xml>\n") == {"a": " 1 \n"}


@pytest.mark.parametrize("value", ["\x00", "a\x0b", "\ud800", "\ufffe"])
def test_a_character_xml_cannot_carry_is_refused_before_sending(value):
    with pytest.raises(ValueError, match="XML cannot carry"):
        v2_wire.write({"body": value})


def test_a_name_that_is_no_tag_is_refused():
    with pytest.raises(ValueError, match="tag"):
        v2_wire.write({"a><b": "1"})


def test_no_other_sign_type_exists():
    with pytest.raises(ValueError, match="sign_type"):
        v2_wire.sign({"a": "1"}, KEY, "SHA1")


@pytest.mark.parametrize("sign", ["", "茶", "\ud800", "x"])
def test_a_strange_sign_is_simply_false(sign):
    assert not v2_wire.verify({"a": "1", "sign": sign}, KEY, "MD5")


@given(st.binary(max_size=200))
def test_a_sealed_req_info_opens_to_what_went_in(plain):
    assert v2_wire.open_req_info(v2_wire.seal_req_info(plain, KEY), KEY) == plain


@pytest.mark.parametrize(
    ("req_info", "reason"), [("", "length"), ("!", "base64"), ("茶", "base64"), ("QUJD", "length")]
)
def test_a_damaged_req_info_does_not_open(req_info, reason):
    with pytest.raises(Sealed) as refusal:
        v2_wire.open_req_info(req_info, KEY)
    assert refusal.value.reason == reason


def test_line_breaks_in_req_info_are_harmless():
    sealed = v2_wire.seal_req_info(b"<root></root>", KEY)
    assert v2_wire.open_req_info(sealed[:10] + "\n" + sealed[10:], KEY) == b"<root></root>"
