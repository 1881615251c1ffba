"""Uploads, drafts, their files and what was said about them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0006"
down_revision = "r0005"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account", sa.BigInteger(), nullable=False),
        sa.Column("region", sa.String(length=6), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("received_bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("finding", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reason_zh", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("received_bytes >= 0 AND received_bytes <= size_bytes", name=op.f("ck_uploads_received")),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name=op.f("fk_uploads_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index("ix_uploads_account", "uploads", ["account", "state"], unique=False)
    op.create_index("ix_uploads_touched_at", "uploads", ["touched_at"], unique=False)
    op.create_table(
        "drafts",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("region", sa.String(length=6), nullable=False),
        sa.Column("author", sa.BigInteger(), nullable=False),
        sa.Column("editor", sa.BigInteger(), nullable=False),
        sa.Column("reviewer", sa.BigInteger(), nullable=True),
        sa.Column("courseware", sa.String(length=64), nullable=True),
        sa.Column("base_version", sa.Integer(), nullable=True),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("publish_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("submitted_at", sa.BigInteger(), nullable=True),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("catalog_version", sa.Integer(), nullable=True),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_drafts_revision")),
        sa.ForeignKeyConstraint(["author"], ["accounts.id"], name=op.f("fk_drafts_author")),
        sa.ForeignKeyConstraint(["editor"], ["accounts.id"], name=op.f("fk_drafts_editor")),
        sa.ForeignKeyConstraint(["reviewer"], ["accounts.id"], name=op.f("fk_drafts_reviewer")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drafts")),
    )
    op.create_index("ix_drafts_state", "drafts", ["state", "changed_at"], unique=False)
    op.create_index("ix_drafts_author", "drafts", ["author", "changed_at"], unique=False)
    op.create_table(
        "draft_files",
        sa.Column("draft", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("upload", sa.String(length=32), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["draft"], ["drafts.id"], name=op.f("fk_draft_files_draft")),
        sa.ForeignKeyConstraint(["upload"], ["uploads.id"], name=op.f("fk_draft_files_upload")),
        sa.PrimaryKeyConstraint("draft", "position", name=op.f("pk_draft_files")),
    )
    op.create_index("ix_draft_files_upload", "draft_files", ["upload"], unique=False)
    op.create_table(
        "draft_notes",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("draft", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["draft"], ["drafts.id"], name=op.f("fk_draft_notes_draft")),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name=op.f("fk_draft_notes_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_draft_notes")),
    )
    op.create_index("ix_draft_notes_draft", "draft_notes", ["draft", "id"], unique=False)
