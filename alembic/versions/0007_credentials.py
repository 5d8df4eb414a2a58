"""An account counts its changes of credentials; tokens are found by maker and by sign-in"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("account", sa.Column("credentials_version", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("token_by_maker", "token", ["created_by"])
    op.create_index("token_by_family", "token", ["family"])


def downgrade() -> None:
    op.drop_index("token_by_family", "token")
    op.drop_index("token_by_maker", "token")
    op.drop_column("account", "credentials_version")
