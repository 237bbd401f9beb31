"""Text from models in places where it could be taken for something else: names in a file are anyone's."""

from __future__ import annotations

import re

#: Control characters, characters that turn the writing direction, halves of surrogate pairs, and no characters.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """The text in one line: what is no visible character becomes an escape such as `\\n`."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def cell(text: str) -> str:
    """The text inside of a Markdown table: it is no markup, and ends no cell."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*_\[\]~@])", r"\\\1", text)
