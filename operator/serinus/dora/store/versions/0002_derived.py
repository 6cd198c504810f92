"""What follows from the facts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Empty; the keeper fills it from the facts."""
    names = ("about", "key", "kind", "name")
    op.create_table("links", *(sa.Column(name, sa.Text, primary_key=True) for name in names))
    op.create_index("links_name", "links", ["kind", "name", "about"])
    op.create_table(
        "attempts",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_index("attempts_service", "attempts", ["service", "at"])
    op.create_index("attempts_at", "attempts", ["at"])
    op.create_table(
        "loose",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("environment", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("loose_service", "loose", ["service", "at"])
    op.create_table("progress", sa.Column("seq", sa.BigInteger, nullable=False), sa.Column("services", sa.Text, nullable=False))


def downgrade() -> None:
    """The facts stay."""
    for table in ("progress", "loose", "attempts", "links"):
        op.drop_table(table)
