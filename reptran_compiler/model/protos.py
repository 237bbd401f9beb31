"""Copies of protobuf messages, field by field."""

from __future__ import annotations

from collections.abc import Collection

from google.protobuf.message import Message  # type: ignore[import-untyped,unused-ignore]


def copy_fields(source: Message, target: Message, without: Collection[str] = ()) -> None:
    """Add the fields that are set in one message to another one of its type, but for those that are named."""
    for field, value in source.ListFields():
        if field.name in without:
            continue
        if isinstance(value, (bool, int, float, str, bytes)):
            setattr(target, field.name, value)
        elif hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        else:
            getattr(target, field.name).CopyFrom(value)
