"""What external servers of every kind need: states that outlive the log, threads, full-text search, POP3, OAuth"""

from __future__ import annotations

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
