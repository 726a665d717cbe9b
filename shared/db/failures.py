"""What a failure of the database means to us: the only place that reads Postgres's error codes.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html. A message names the query, never a parameter: the
server's own words quote values, so they are left out except where they can only name tables and columns (class 42).
"""

from __future__ import annotations

import ssl

from pg8000.exceptions import DatabaseError, InterfaceError

from shared.errors import (
    AppError,
    ConflictError,
    ConstraintError,
    DatabaseUnavailableError,
    RequestError,
    SettingsError,
    StatementError,
)

LOST = (InterfaceError, OSError)
"""The connection is unusable, and what the last statement did is unknown."""

_UNIQUE_VIOLATION = "23505"
_BUSY = {"40001", "40P01", "55P03", "0A000", "26000"}
_TIMEOUT = {"57014"}
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58")
_UNAVAILABLE = {"25P03", "25P04", "25006"}
_UNSTORABLE_TEXT = {"22021", "22P05"}
_REFUSED_ENTRY_CLASSES = ("28", "3D")
_CONSTRAINTS = {"23502": "not_null_violation", "23503": "foreign_key_violation", "23514": "check_violation"}


def sql_state(error: DatabaseError) -> str:
    """Return the five characters that Postgres gave the error, or nothing."""
    return _field(error, "C")


def explain(error: DatabaseError, *, query: str) -> AppError:
    """Return what the server's refusal of *query* means."""
    state = sql_state(error)
    if state.startswith("23"):
        return _broken_rule(state, _field(error, "n") or _field(error, "c"), query)
    if state in _BUSY:
        return DatabaseUnavailableError(
            "The database was busy with the same rows; ask again.", code="database_busy", retry_after_seconds=1
        )
    if state in _TIMEOUT:
        return DatabaseUnavailableError(f"The database took too long over {query}.", code="database_timeout")
    if state.startswith(_UNAVAILABLE_CLASSES) or state in _UNAVAILABLE:
        return DatabaseUnavailableError()
    if state in _UNSTORABLE_TEXT:
        return RequestError("Text may not contain the zero character.")
    words = f": {_field(error, 'M')}" if state.startswith("42") else ""
    return StatementError(f"The database refused the query {query} ({state}){words}.")


def _broken_rule(state: str, rule: str, query: str) -> AppError:
    if state == _UNIQUE_VIOLATION:
        return ConflictError("Something of that name exists already.", code="unique_violation", details={"constraint": rule})
    code = _CONSTRAINTS.get(state, "")
    return ConstraintError(f"The query {query} broke the rule {rule}.", code=code, details={"constraint": rule})


def explain_connecting(error: Exception) -> AppError:
    """Return why no connection could be opened; nothing was done."""
    if isinstance(error, DatabaseError) and sql_state(error).startswith(_REFUSED_ENTRY_CLASSES):
        return SettingsError("The database refused us: check user, password and database name in its URL.")
    if isinstance(error, ssl.SSLError):
        return SettingsError("The database's certificate could not be verified: check sslmode and sslrootcert in its URL.")
    if "refuses SSL" in str(error):
        return SettingsError("The database does not offer TLS: check sslmode in its URL.")
    return DatabaseUnavailableError("The database could not be reached; ask again shortly.")


def lost(query: str) -> DatabaseUnavailableError:
    """Return the error for a connection that ended during *query*: a write may have happened, so nobody repeats it here."""
    return DatabaseUnavailableError(f"The connection to the database ended during {query}; its outcome is unknown.")


def _field(error: DatabaseError, name: str) -> str:
    fields = error.args[0] if error.args else None
    return str(fields.get(name, "")) if isinstance(fields, dict) else ""
