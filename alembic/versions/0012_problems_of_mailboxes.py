"""Why some of a mailbox cannot be read from its mail server"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("mailbox", sa.Column("problem", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("mailbox", "problem")
