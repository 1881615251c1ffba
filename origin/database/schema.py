"""All tables at once, for whoever migrates, copies or compares whole databases."""

from __future__ import annotations

from origin.database import tables_boards, tables_drafts, tables_jobs, tables_pilots
from origin.database.tables import HEAD, schema

__all__ = ["HEAD", "schema", "tables_boards", "tables_drafts", "tables_jobs", "tables_pilots"]
