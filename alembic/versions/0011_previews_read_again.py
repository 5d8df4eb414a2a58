"""Read messages again whose preview is empty: earlier versions did not find the words of some of them"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Their texts are awaited again, and with a text comes the preview; external servers are asked for previews too.

    The usual workers read them in the background. A later improvement of previews repeats these statements.
    """
    op.execute(
        "DELETE FROM search_text WHERE EXISTS (SELECT 1 FROM message WHERE message.account_id = search_text.account_id"
        " AND message.id = search_text.message_id AND message.preview = '')"
    )
    op.execute("UPDATE message SET text_state = 0 WHERE preview = ''")
    op.execute(
        "UPDATE message SET preview = NULL WHERE preview = ''"
        " AND account_id IN (SELECT id FROM account WHERE kind = 'imap')"
    )


def downgrade() -> None:
    """What is read is right for earlier versions too."""
