"""The tables of what is not published yet: uploads, drafts, their files and what was said about them."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, Text

from origin.database.tables import DIGEST, ID, SERIAL, schema

# Files on their way in. `received_bytes` is what lies on the disk for good; `place` names the process's directory that
# has the bytes until they are whole and in the storage. `finding` is what was found in them, as JSON.
uploads = Table(
    "uploads",
    schema,
    Column("id", String(32), primary_key=True),
    Column("account", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("region", String(6), nullable=False),
    Column("name", String(200), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("digest", DIGEST),
    Column("place", Text, nullable=False),
    Column("finding", Text),
    Column("reason", Text, nullable=False),
    Column("reason_zh", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("touched_at", BigInteger, nullable=False),
    CheckConstraint("received_bytes >= 0 AND received_bytes <= size_bytes", name="received"),
    Index("ix_uploads_account", "account", "state"),
    Index("ix_uploads_touched_at", "touched_at"),
)

# One courseware as people work on it. `revision` counts every change: whoever saves names the one that they saw.
# `publisher` is the city into whose catalog it goes, empty for the province. `courseware` and `base_version` say what
# it revises; `version` and `catalog_version` what became of it. `pilot` says to whom it goes first, as JSON.
drafts = Table(
    "drafts",
    schema,
    Column("id", SERIAL, primary_key=True),
    Column("source", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("region", String(6), nullable=False),
    Column("author", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("editor", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("reviewer", BigInteger, ForeignKey("accounts.id")),
    Column("publisher", String(6), nullable=False, server_default=""),
    Column("courseware", ID),
    Column("base_version", Integer),
    Column("title", String(200), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("document", Text, nullable=False),
    Column("publish_at", BigInteger),
    Column("pilot", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("submitted_at", BigInteger),
    Column("approved_at", BigInteger),
    Column("version", Integer),
    Column("catalog_version", Integer),
    CheckConstraint("revision >= 1", name="revision"),
    # The console's list, the last changed first, is read, counted and searched from indexes, past the documents.
    Index("ix_drafts_state", "state", "changed_at", "id", "region", "author", "source", "title"),
    Index("ix_drafts_changed_at", "changed_at", "id", "state", "region", "author", "source", "title"),
    Index("ix_drafts_author", "author", "changed_at"),
)

draft_files = Table(
    "draft_files",
    schema,
    Column("draft", BigInteger, ForeignKey("drafts.id"), primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("upload", String(32), ForeignKey("uploads.id"), nullable=False),
    Column("role", String(16), nullable=False),
    Column("name", String(200), nullable=False),
    Index("ix_draft_files_upload", "upload"),
)

# Comments and steps, in order; nothing here is ever changed.
draft_notes = Table(
    "draft_notes",
    schema,
    Column("id", SERIAL, primary_key=True),
    Column("draft", BigInteger, ForeignKey("drafts.id"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("account", BigInteger, ForeignKey("accounts.id")),
    Column("kind", String(16), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Index("ix_draft_notes_draft", "draft", "id"),
)
