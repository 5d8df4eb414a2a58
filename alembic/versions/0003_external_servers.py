"""What external servers of every kind need: states that outlive the log, threads, full-text search, POP3, OAuth"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from app.mail.searchable import fold

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _states()
    _threads()
    _pop3()
    _placements()
    _oauth()
    _search()
    op.add_column("detail", sa.Column("digest", sa.String()))


def downgrade() -> None:
    _drop_states()
    op.drop_column("detail", "digest")
    op.drop_table("thread_alias")
    op.drop_table("pop3_message")
    op.drop_table("placement")
    op.drop_index("message_by_origin", "message")
    op.drop_column("message", "further")
    op.drop_column("account", "has_placements")
    _drop_search()
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


_FOLDED = ("subject_folded", "from_folded", "to_folded", "cc_folded", "bcc_folded")
_FOLDED_AT_ONCE = 1_000


def _search() -> None:
    op.add_column("message", sa.Column("text_state", sa.BigInteger(), nullable=False, server_default="0"))
    unindexed = sa.text("text_state <> 1")
    op.create_index(
        "message_unindexed",
        "message",
        ["account_id", "text_state", "received_at_ms"],
        sqlite_where=unindexed,
        postgresql_where=unindexed,
    )
    op.create_table(
        "search_text",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("received_at_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("shown", sa.LargeBinary()),
        sa.Column("header", sa.Text(), nullable=False, server_default=""),
        sa.Column("body", sa.Text(), nullable=False, server_default=""),
        sa.UniqueConstraint("account_id", "message_id"),
    )
    op.create_index("search_text_by_age", "search_text", ["account_id", "received_at_ms", "size_bytes"])
    if op.get_bind().dialect.name == "sqlite":
        _search_trigram()
    else:
        _pg_trgm()
    _fold_anew()


def _search_trigram() -> None:
    """A trigram index that says which rows may match; the rows themselves say which do."""
    op.execute(
        "CREATE VIRTUAL TABLE search_trigram USING fts5(header, body, content='search_text', content_rowid='id', "
        "tokenize='trigram case_sensitive 1', detail=column)"
    )
    op.execute(
        "CREATE TRIGGER search_text_added AFTER INSERT ON search_text BEGIN "
        "INSERT INTO search_trigram (rowid, header, body) VALUES (new.id, new.header, new.body); END"
    )
    op.execute(
        "CREATE TRIGGER search_text_removed AFTER DELETE ON search_text BEGIN "
        "INSERT INTO search_trigram (search_trigram, rowid, header, body) "
        "VALUES ('delete', old.id, old.header, old.body); END"
    )


def _pg_trgm() -> None:
    """Where the extension is not to be had, a search reads the account's rows: slower, with the same answers."""
    try:
        with op.get_bind().begin_nested():
            op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except sa.exc.DBAPIError:
        return
    for column in ("header", "body"):
        op.execute(f"CREATE INDEX search_text_{column} ON search_text USING gin ({column} gin_trgm_ops)")


def _fold_anew() -> None:
    """Folded columns held case-folded text; now they hold what `fold` makes of it."""
    message = sa.table("message", *map(sa.column, ("account_id", "id", *_FOLDED)))
    key = sa.tuple_(message.c.account_id, message.c.id)
    rows = sa.select(message).order_by(message.c.account_id, message.c.id).limit(_FOLDED_AT_ONCE)
    change = (
        sa.update(message)
        .where(message.c.account_id == sa.bindparam("account"), message.c.id == sa.bindparam("key"))
        .values({name: sa.bindparam(f"new_{name}") for name in _FOLDED})
    )
    last = ("", "")
    while batch := op.get_bind().execute(rows.where(key > sa.tuple_(*map(sa.literal, last)))).all():
        last = batch[-1][0], batch[-1][1]
        values = [
            {"account": row[0], "key": row[1]}
            | {f"new_{name}": fold(value) for name, value in zip(_FOLDED, row[2:], strict=True)}
            for row in batch
        ]
        op.get_bind().execute(change, values)


def _drop_search() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE search_trigram")
    op.drop_table("search_text")
    op.drop_index("message_unindexed", "message")
    op.drop_column("message", "text_state")


def _placements() -> None:
    op.add_column("account", sa.Column("has_placements", sa.Boolean()))
    op.add_column("message", sa.Column("further", sa.BigInteger(), nullable=False, server_default="0"))
    present = sa.text("origin_id IS NOT NULL")
    op.create_index(
        "message_by_origin",
        "message",
        ["account_id", "origin_id"],
        sqlite_where=present,
        postgresql_where=present,
    )
    op.create_table(
        "placement",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("mailbox_id", sa.String(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("modseq", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("received_at_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("account_id", "mailbox_id", "uid"),
    )
    op.create_index("placement_by_message", "placement", ["account_id", "message_id"])
    op.create_index("placement_by_mailbox", "placement", ["account_id", "mailbox_id", "received_at_ms"])


def _pop3() -> None:
    op.create_table(
        "pop3_message",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("uidl", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("header_hash", sa.String()),
        sa.Column("content_hash", sa.String()),
        sa.Column("message_id", sa.String()),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("stored_at_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("changed_at_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("account_id", "uidl", "ordinal"),
    )
    op.create_index("pop3_message_by_message", "pop3_message", ["account_id", "message_id"])


_SEQS = {
    "account": ("first_event_ms", "last_event_ms"),
    "mailbox": ("created_seq", "reset_seq", "forgotten_seq"),
    "message": ("created_seq", "moved_seq", "flags_seq", "other_seq", "changed_seq"),
}


def _states() -> None:
    for table, columns in _SEQS.items():
        for column in columns:
            op.add_column(table, sa.Column(column, sa.BigInteger(), nullable=False, server_default="0"))
    op.drop_index("message_by_version", "message")
    op.execute("UPDATE message SET changed_seq = version")
    op.create_index("message_by_change", "message", ["account_id", "changed_seq"])
    op.create_table(
        "tombstone",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("mailbox_ids", sa.Text()),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("at_ms", sa.BigInteger(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("account_id", "seq", "subject"),
    )
    for column, pick in (("first_event_ms", "min"), ("last_event_ms", "max")):
        op.execute(
            f"UPDATE account SET {column} = "  # noqa: S608 -- of the words just above
            f"COALESCE((SELECT {pick}(at_ms) FROM event WHERE event.account_id = account.id), 0)"
        )
    # what was trimmed before there were tombstones can't be answered: no state from then is
    op.execute("UPDATE mailbox SET forgotten_seq = (SELECT last_seq FROM account WHERE id = mailbox.account_id)")


def _threads() -> None:
    op.create_table(
        "thread_alias",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("thread_id", sa.String(), nullable=False),
        sa.Column("into_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "thread_id"),
    )
    op.create_index("thread_alias_by_into", "thread_alias", ["account_id", "into_id"])


def _drop_states() -> None:
    op.drop_table("tombstone")
    op.drop_index("message_by_change", "message")
    op.create_index("message_by_version", "message", ["account_id", "mailbox_id", "version"])
    for table, columns in _SEQS.items():
        for column in columns:
            op.drop_column(table, column)
