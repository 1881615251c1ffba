"""The table of publishes that were asked for over the API and are carried out by the origin's own process."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table, Text

from origin.database.tables import schema

# `request` and `result` are JSON; `stage` and the two counts are the latest progress; `problem` is why it failed.
# `place` names the directory whose uploads it is made of: only a process there can carry it out.
publish_jobs = Table(
    "publish_jobs",
    schema,
    Column("id", String(32), primary_key=True),
    Column("account", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("place", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("done_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    Column("result", Text),
    Column("problem", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("touched_at", BigInteger, nullable=False),
    Index("ix_publish_jobs_state", "state", "created_at"),
)
