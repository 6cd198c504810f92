"""Pipelines, tests and coverage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _numbers(*names: str, nullable: bool = False) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=nullable) for name in names]


def upgrade() -> None:
    """Empty; they are filled from the facts."""
    op.create_table(
        "runs",
        sa.Column("key", sa.Text, primary_key=True),
        *_texts("repository", "parent", "run"),
        sa.Column("attempt", sa.Integer, nullable=False),
        *_texts("name", "commit", "result"),
        *_numbers("queued", "started", "finished", nullable=True),
    )
    op.create_index("runs_finished", "runs", ["repository", "finished"])
    op.create_index("runs_commit", "runs", ["commit"])
    op.create_table(
        "merges",
        sa.Column("key", sa.Text, primary_key=True),
        *_texts("repository", "base", "commit"),
        *_numbers("merged"),
    )
    op.create_index("merges_commit", "merges", ["commit", "repository"])
    op.create_index("merges_repository", "merges", ["repository", "base"])
    op.create_table(
        "suites",
        sa.Column("key", sa.Text, primary_key=True),
        *_texts("repository", "suite", "commit"),
        *_numbers("at"),
        *_numbers("milliseconds", nullable=True),
        *_numbers("failed", "flaky"),
    )
    op.create_index("suites_at", "suites", ["repository", "at"])
    op.create_table(
        "coverage",
        sa.Column("key", sa.Text, primary_key=True),
        *_texts("repository", "part", "commit", "branch"),
        *_numbers("at", "lines", "lines_covered"),
        *_numbers("branches", "branches_covered", nullable=True),
    )
    op.create_index("coverage_at", "coverage", ["repository", "part", "at"])
    op.create_table("followed", *_numbers("seq"))


def downgrade() -> None:
    """The facts stay."""
    for table in ("followed", "coverage", "suites", "merges", "runs"):
        op.drop_table(table)
