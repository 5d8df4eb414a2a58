"""An epoch that a restore ends, and UIDLs that outlive it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("epoch", sa.Text(), nullable=False, server_default=""),
        sa.Column("tick", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("restored_at_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("key_id", sa.Text(), nullable=False, server_default=""),
    )
    op.add_column("mailbox", sa.Column("uidl_eras", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("mailbox", "uidl_eras")
    op.drop_table("installation")
