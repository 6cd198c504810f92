"""Names come first in the index of links: a planner without statistics took all of a kind to be few, and read them all."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Of the same columns."""
    op.drop_index("links_name", "links")
    op.create_index("links_name", "links", ["name", "kind", "about"])


def downgrade() -> None:
    """As it was."""
    op.drop_index("links_name", "links")
    op.create_index("links_name", "links", ["kind", "name", "about"])
