"""Cities publish catalogs of their own: whose lessons, releases and drafts are, and which of them an edge has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0011"
down_revision = "r0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    for table in ("courseware", "releases", "drafts"):
        op.add_column(table, sa.Column("publisher", sa.String(length=6), nullable=False, server_default=""))
    op.add_column("reporting", sa.Column("cities", sa.Text(), nullable=False, server_default="{}"))
