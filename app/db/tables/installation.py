"""Facts about the installation as a whole."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

from app.db.tables.columns import big, table_of, words


class InstallationRow(SQLModel, table=True):
    """The only row of its table. The epoch is also stored outside the database: see `db.epoch`."""

    __tablename__ = "installation"

    id: int = Field(primary_key=True)
    epoch: str = Field(sa_column=words())
    """Random; a restore begins another one."""
    tick: int = Field(sa_column=big())
    """Grows while the database changes."""
    restored_at_ms: int = Field(sa_column=big())
    """When the last restore was made; 0 if there was none."""
    key_id: str = Field(sa_column=words())
    """The id of the newest master key, in hexadecimal: it signs states and cursors."""


INSTALLATION = table_of(InstallationRow)
