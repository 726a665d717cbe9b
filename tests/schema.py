"""A schema as text, for comparison: everything that a migration can leave different."""

from __future__ import annotations

from tests.databases import connect

_PARTS = {
    "tables": """
        SELECT c.relname, c.relkind, c.relpersistence, c.reloptions::text, obj_description(c.oid)
          FROM pg_class c WHERE c.relnamespace = '{side}'::regnamespace AND c.relkind <> 'i'""",
    "columns": """
        SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
               pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE c.relnamespace = '{side}'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
           AND a.attnum > 0 AND NOT a.attisdropped""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, convalidated, pg_get_constraintdef(oid)
          FROM pg_constraint WHERE connamespace = '{side}'::regnamespace""",
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = '{side}'""",
    "sequences": """
        SELECT sequencename, data_type::text, start_value, increment_by FROM pg_sequences WHERE schemaname = '{side}'""",
    "functions": """
        SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = '{side}'::regnamespace AND prokind = 'f'""",
    "triggers": """
        SELECT t.tgname, pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
         WHERE c.relnamespace = '{side}'::regnamespace AND NOT t.tgisinternal""",
}


def describe(url: str, side: str) -> dict[str, list[str]]:
    """Return what schema *side* consists of, part by part. The order of columns counts too."""
    wire = connect(url)
    try:
        rows = {part: wire.script(sql.format(side=side)) for part, sql in _PARTS.items()}
        return {part: sorted(" | ".join(map(str, row.values())) for row in found) for part, found in rows.items()}
    finally:
        wire.hang_up()


def foreign_keys_across(url: str) -> list[str]:
    """Name the foreign keys that lead from one schema into another."""
    wire = connect(url)
    try:
        rows = wire.script("""
            SELECT k.conname FROM pg_constraint k
              JOIN pg_class a ON a.oid = k.conrelid JOIN pg_class b ON b.oid = k.confrelid
             WHERE k.contype = 'f' AND a.relnamespace <> b.relnamespace""")
        return [row["conname"] for row in rows]
    finally:
        wire.hang_up()
