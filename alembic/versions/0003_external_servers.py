"""What external servers of every kind need: states that outlive the log, threads, full-text search, POP3, OAuth"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _oauth()


def downgrade() -> None:
    for table in ("connect_session", "oauth_grant", "oauth_app"):
        op.drop_table(table)


def _oauth() -> None:
    op.create_table(
        "oauth_app",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, server_default=""),
        sa.Column("endpoints", sa.Text(), nullable=False, server_default=""),
        sa.Column("scopes", sa.Text(), nullable=False, server_default=""),
        sa.Column("client_id", sa.Text(), nullable=False, server_default=""),
        sa.Column("secret", sa.LargeBinary()),
        sa.Column("servers", sa.Text(), nullable=False, server_default=""),
        sa.Column("redirect_urls", sa.Text(), nullable=False, server_default=""),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.create_table(
        "oauth_grant",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("oauth_app_id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String()),
        sa.Column("scopes", sa.Text(), nullable=False, server_default=""),
        sa.Column("secrets", sa.LargeBinary(), nullable=False),
        sa.Column("access_expires_at_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("is_over", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.create_index("oauth_grant_by_account", "oauth_grant", ["account_id"])
    op.create_index("oauth_grant_by_app", "oauth_grant", ["oauth_app_id"])
    op.create_table(
        "connect_session",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("secret_hash", sa.String(), nullable=False, unique=True),
        sa.Column("state_hash", sa.Text(), unique=True),
        sa.Column("browser_hash", sa.Text()),
        sa.Column("verifier", sa.LargeBinary()),
        sa.Column("facts", sa.Text(), nullable=False, server_default=""),
        sa.Column("expires_at_ms", sa.BigInteger(), nullable=False, server_default="0"),
    )
