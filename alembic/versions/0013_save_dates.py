"""When a message came into its mailbox, for SAVEDATE of the IMAP server"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("message", sa.Column("saved_at_ms", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("message", "saved_at_ms")
