"""Postgres for a function: connections, transactions, named queries.

A store holds `QUERIES = load_queries(__file__)`, takes a `Session` first, and turns rows into models. Verbs hold a `Database`:
`run` and `read` for one statement, `transaction` for several. No other module names the driver.
"""

from shared.db.database import Database, Session
from shared.db.queries import Queries, Query, load_queries
from shared.db.values import Json
from shared.db.wire import Row, Rows

__all__ = ["Database", "Json", "Queries", "Query", "Row", "Rows", "Session", "load_queries"]
