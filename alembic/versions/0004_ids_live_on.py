"""Messages that are gone keep their ids for when they come back"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _departed()
    op.add_column("mailbox", sa.Column("is_newcomer", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("mailbox", sa.Column("origin_id", sa.String(), nullable=True))
    op.add_column("account", sa.Column("quotas", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("account", "quotas")
    op.drop_table("departed")
    op.drop_column("mailbox", "origin_id")
    op.drop_column("mailbox", "is_newcomer")


def _departed() -> None:
    op.create_table(
        "departed",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("origin_id", sa.String(), nullable=False),
        sa.Column("is_told", sa.Boolean(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("account_id", "message_id"),
    )
    op.create_index("departed_by_origin", "departed", ["account_id", "origin_id"])
    op.create_index("departed_by_age", "departed", ["account_id", "at_ms"])
