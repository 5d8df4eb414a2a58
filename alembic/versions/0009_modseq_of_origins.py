"""Forget MODSEQs of external messages that are numbers of our own log, not the mail server's"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """0 takes any later MODSEQ; where the two numbers were equal by chance, the next comparison sets it again."""
    op.execute(
        "UPDATE message SET modseq = 0 WHERE modseq = version AND modseq > 0"
        " AND account_id IN (SELECT id FROM account WHERE kind = 'imap')"
    )


def downgrade() -> None:
    """The numbers that were forgotten were wrong."""
