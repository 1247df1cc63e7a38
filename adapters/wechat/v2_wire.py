"""WeChat Pay V2 on the wire: flat XML, signed with the merchant's API key."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from lxml import etree

Fields = Mapping[str, str]

SIZE_MAX = 64 * 1024  # bytes; WeChat's own messages are a few KiB (v2.md section 3)

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class MalformedXml(Exception):
    """A body that is not V2's flat XML; `reason` is doctype, nested, duplicate, malformed, size or root."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Sealed(Exception):
    """A `req_info` that our API key does not open; `reason` is base64, length or padding."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def string_to_sign(fields: Fields, api_key: str) -> str:
    """Every field but `sign` that is not empty, in byte order, then the key (v2.md section 2)."""
    pairs = [f"{name}={fields[name]}" for name in sorted(fields) if fields[name] and name != "sign"]
    return "&".join(pairs) + f"&key={api_key}"


def sign(fields: Fields, api_key: str, sign_type: str = "MD5") -> str:
    """Upper-case hex over `string_to_sign`; raise ValueError for a sign_type WeChat does not have."""
    text = string_to_sign(fields, api_key).encode()
    if sign_type == "MD5":
        return hashlib.md5(text, usedforsecurity=False).hexdigest().upper()
    if sign_type == "HMAC-SHA256":
        return hmac.new(api_key.encode(), text, hashlib.sha256).hexdigest().upper()
    raise ValueError(f"sign_type is MD5 or HMAC-SHA256, not {sign_type!r}")


def verify(fields: Fields, api_key: str, sign_type: str) -> bool:
    """Whether `sign` is exactly what the key makes of the other fields; a missing one is not."""
    given = fields.get("sign", "").encode(errors="replace")
    return hmac.compare_digest(given, sign(fields, api_key, sign_type).encode())


def read(body: bytes, root: str = "xml", size_max: int = SIZE_MAX) -> dict[str, str]:
    """The fields of a flat XML body, whitespace kept; raise MalformedXml for anything else.

    A document type is refused whatever it holds: external entities through the notify URL
    were a real attack on V2 merchants (v2.md section 3).
    """
    if len(body) > size_max:
        raise MalformedXml("size")
    fields: dict[str, str] = {}
    for child in _parse(body, root):
        name = _plain_name(child)
        if len(child):
            raise MalformedXml("nested" if all(isinstance(each.tag, str) for each in child) else "malformed")
        if (child.tail or "").strip():
            raise MalformedXml("malformed")
        if name in fields:
            raise MalformedXml("duplicate")
        fields[name] = child.text or ""
    return fields


def _parse(body: bytes, root: str) -> etree._Element:
    # A parser is stateful, so each call gets its own. The encoding is ours, not the sender's to declare.
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, encoding="utf-8"
    )
    try:
        body.decode()
        tree = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise MalformedXml("malformed") from None
    if tree.getroottree().docinfo.internalDTD is not None:
        raise MalformedXml("doctype")
    if _plain_name(tree) != root:
        raise MalformedXml("root")
    if (tree.text or "").strip():
        raise MalformedXml("malformed")
    return tree


def _plain_name(element: etree._Element) -> str:
    """The tag; comments, processing instructions, entities, attributes and namespaces are refused."""
    tag = str(element.tag)  # of a comment it is a function, which no name matches
    if not NAME.fullmatch(tag) or element.attrib or element.nsmap:
        raise MalformedXml("malformed")
    return tag


def write(fields: Fields, root: str = "xml") -> bytes:
    """The fields as flat XML, each in CDATA, empty ones left out.

    Raise ValueError for a character XML cannot carry, or a name that is no tag.
    """
    parts = [f"<{root}>"]
    for name, value in fields.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a tag")
        if ILLEGAL.search(value):
            raise ValueError(f"{name} holds a character that XML cannot carry")
        if value:
            parts.append(f"<{name}>{_cdata(value)}</{name}>")
    parts.append(f"</{root}>")
    return "".join(parts).encode()


def _cdata(value: str) -> str:
    value = value.replace("]]>", "]]]]><![CDATA[>")
    # Every parser turns a bare CR into LF, and the signature would no longer hold.
    value = value.replace("\r", "]]>&#13;<![CDATA[")
    return f"<![CDATA[{value}]]>"


def seal_req_info(plain: bytes, api_key: str) -> str:
    """Encrypt a refund notification's content as WeChat does (v2.md section 12)."""
    padder = PKCS7(128).padder()
    worker = ecb(req_info_key(api_key)).encryptor()
    sealed = worker.update(padder.update(plain) + padder.finalize()) + worker.finalize()
    return base64.b64encode(sealed).decode()


def open_req_info(req_info: str, api_key: str) -> bytes:
    """The XML inside a refund notification; raise Sealed if it does not open (v2.md section 12).

    Opening proves little: ECB has no integrity, and a wrong key passes once in 256 times.
    """
    try:
        sealed = base64.b64decode(re.sub(r"\s", "", req_info), validate=True)
    except (binascii.Error, ValueError):
        raise Sealed("base64") from None
    if not sealed or len(sealed) % 16:
        raise Sealed("length")
    worker = ecb(req_info_key(api_key)).decryptor()
    unpadder = PKCS7(128).unpadder()
    try:
        return unpadder.update(worker.update(sealed) + worker.finalize()) + unpadder.finalize()
    except ValueError:
        raise Sealed("padding") from None


def req_info_key(api_key: str) -> bytes:
    """The AES key: the 32 hex letters of the API key's MD5, as text and with their leading zeros."""
    return hashlib.md5(api_key.encode(), usedforsecurity=False).hexdigest().encode()


def ecb(key: bytes) -> Cipher[modes.ECB]:
    """AES in ECB mode, the way `req_info` is encrypted."""
    return Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - WeChat's choice
