"""Work in portions of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

#: How many bytes of compared tensors are fetched at a time, about: memory that is used again costs no page faults.
PORTION = 1 << 28


def portions(items: Sequence[Item], size: Callable[[Item], int], most: int = PORTION) -> Iterator[list[Item]]:
    """Consecutive items, as many at a time as are no larger than `most` together, and one at least.

    Args:
        items: the items, in order.
        size: how large one is.
        most: how large a portion is at most, unless one item is larger.
    """
    found: list[Item] = []
    total = 0
    for item in items:
        if found and total + size(item) > most:
            yield found
            found, total = [], 0
        found.append(item)
        total += size(item)
    if found:
        yield found
