"""The console's list of drafts is read, counted and searched from indexes, past the documents."""

from __future__ import annotations

from alembic import op

revision = "r0008"
down_revision = "r0007"
branch_labels = None
depends_on = None

_SEARCHED = ("region", "author", "source", "title")


def upgrade() -> None:
    """Go forward."""
    op.drop_index("ix_drafts_state", table_name="drafts")
    op.create_index("ix_drafts_state", "drafts", ["state", "changed_at", "id", *_SEARCHED], unique=False)
    op.create_index("ix_drafts_changed_at", "drafts", ["changed_at", "id", "state", *_SEARCHED], unique=False)
