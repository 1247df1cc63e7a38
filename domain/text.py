"""Text that WeChat will carry and a payer can read."""

import re

# What XML 1.0 cannot hold, and lone surrogates: neither V2 nor a payer's screen could show them.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def plain(text: str) -> bool:
    """Whether the text has no character that V2's XML could not carry (v2.md section 3)."""
    return UNPRINTABLE.search(text) is None


def one_line(text: str) -> bool:
    """Whether the text is plain and holds no tab or line break."""
    return plain(text) and not any(mark in text for mark in "\t\r\n")
