"""Renditions that were made, by the video that they were made of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0004"
down_revision = "r0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "renditions",
        sa.Column("video", sa.String(length=64), nullable=False),
        sa.Column("recipe", sa.String(length=400), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("video", "recipe", name=op.f("pk_renditions")),
    )
