"""How Python values travel to Postgres as text, and back.

Stricter than the driver: a type that is not listed is refused, never passed as its `str()` (a secret's would be asterisks).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pg8000 import converters

from shared.errors import RequestError


@dataclass(frozen=True)
class Json:
    """A parameter that is JSON whatever its type: lists need it, since a plain list is an array; a dict may go bare."""

    value: Any


def encode(value: object) -> bytes | None:
    """Return *value* as the server reads it, or None for NULL. Text that Postgres cannot store is a RequestError."""
    if value is None:
        return None
    try:
        text = _text(value)
        if "\0" in text:
            raise RequestError("Text may not contain the zero character.")
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise RequestError("Text may not contain half of a surrogate pair.") from None


def _text(value: object) -> str:
    writer = _WRITERS.get(type(value))
    if writer is not None:
        return writer(value)
    for kind in (Enum, str, int, dict, list, tuple):
        if isinstance(value, kind):
            return _WRITERS[kind](value)
    raise TypeError(f"A parameter of type {type(value).__name__} cannot be sent to the database.")


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        raise TypeError("A moment without time zone cannot be sent to the database.")
    return value.isoformat()


def _duration(value: timedelta) -> str:
    return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise RequestError("JSON may contain only finite numbers.") from None


def _array(items: Any) -> str:
    """Write a one-dimensional array; each element is quoted, so no content can be mistaken for NULL or a separator."""
    return "{" + ",".join(_element(item) for item in items) + "}"


def _element(item: object) -> str:
    if item is None:
        return "NULL"
    if isinstance(item, dict | list | tuple):
        raise TypeError("A list of lists or objects is no array; wrap it in Json.")
    return '"' + _text(item).replace("\\", "\\\\").replace('"', '\\"') + '"'


_WRITERS: dict[type, Callable[[Any], str]] = {
    str: str,
    bool: lambda value: "true" if value else "false",
    int: str,
    float: repr,
    Decimal: str,
    datetime: _moment,
    date: date.isoformat,
    timedelta: _duration,
    UUID: str,
    bytes: lambda value: "\\x" + value.hex(),
    Enum: lambda value: _text(value.value),
    Json: lambda value: _json(value.value),
    dict: _json,
    list: _array,
    tuple: _array,
}


def _read_moment(text: str) -> datetime | str:
    """Several times faster than the driver's own; `infinity` and years beyond 9999 stay text, as there."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


def _read_date(text: str) -> date | str:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return text


READERS: dict[int, Callable[[str], object]] = {
    converters.TIMESTAMPTZ: _read_moment,
    converters.TIMESTAMP: _read_moment,
    converters.DATE: _read_date,
}
"""What replaces the driver's own readers, by type."""
