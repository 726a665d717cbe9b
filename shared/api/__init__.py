"""Bodies that cross HTTP, as pydantic models: the public answers, and what the two sides exchange.

They are the single source of field names and casing. Nothing here reads a database, a setting or the network.
"""
