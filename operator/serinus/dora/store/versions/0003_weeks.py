"""Weeks, and the settings with which all that follows from the facts was made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

SAMPLES = ("lead", "first_commit", "bake", "wait", "review", "build", "queue", "rollout", "caught", "escaped")


def upgrade() -> None:
    """Empty: without progress all that follows is made anew from the facts."""
    op.create_table(
        "weeks",
        sa.Column("monday", sa.Integer, primary_key=True),
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("environment", sa.Text, primary_key=True),
        sa.Column("days", sa.LargeBinary, nullable=False),
        *(sa.Column(name, sa.LargeBinary, nullable=False) for name in SAMPLES),
        sa.Column("slowest", sa.Text, nullable=False),
        sa.Column("failures", sa.Text, nullable=False),
    )
    op.create_index("weeks_service", "weeks", ["service"])
    op.execute("DELETE FROM progress")
    op.add_column("progress", sa.Column("settings", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """The facts stay."""
    op.drop_column("progress", "settings")
    op.drop_table("weeks")
