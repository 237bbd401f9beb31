"""Text for terminals and logs."""

from __future__ import annotations

import unicodedata

#: Control characters, formatting ones (which reverse or hide text), what is no character, and separators of lines.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cn", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """A text in which no character acts on a terminal: escapes as Python writes them stand for those that would.

    Names in a model are anybody's: one may hold a line break, an escape sequence, or letters that reverse a line.
    """
    if text.isprintable():
        return text
    return "".join(ascii(each)[1:-1] if unicodedata.category(each) in _UNPRINTABLE else each for each in text)
