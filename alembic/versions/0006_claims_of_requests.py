"""Claims of running requests, and the user that a token is for"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("idempotency", sa.Column("claim", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("idempotency", sa.Column("lease_until_ms", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("token", sa.Column("sub", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("token", "sub")
    op.drop_column("idempotency", "lease_until_ms")
    op.drop_column("idempotency", "claim")
