"""Text from models in places where it could be taken for something else: names in a file are anyone's."""

from __future__ import annotations

import re

from reptran_compiler.text import printable


def cell(text: str) -> str:
    """The text inside of a Markdown table: it is no markup, and ends no cell."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*_\[\]~@])", r"\\\1", text)
