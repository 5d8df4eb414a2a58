"""Every setting, with its default and unit. Each is read from the environment as POSTGATE_ and its name in capitals."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Network = IPv4Network | IPv6Network


class Settings(BaseSettings):
    """Settings of one Postgate process. A port of 0 takes any free one; None switches a server off."""

    model_config = SettingsConfigDict(env_prefix="POSTGATE_", extra="forbid", frozen=True)

    data_dir: Path = Field(Path("data"), description="Where the database, message bytes and the master key live.")
    database_url: str | None = Field(
        None, description="postgresql://… for PostgreSQL; unset: SQLite in the data directory."
    )
    bind: str = Field("127.0.0.1", description="The address that every server listens on.")
    http_port: int = Field(8080, ge=0, le=65535, description="REST and WebSocket.")
    imap_port: int | None = Field(1143, ge=0, le=65535, description="IMAP, with STARTTLS where there is a certificate.")
    pop3_port: int | None = Field(1110, ge=0, le=65535, description="POP3, likewise.")
    submission_port: int | None = Field(1587, ge=0, le=65535, description="SMTP submission, likewise.")
    smtp_port: int | None = Field(1025, ge=0, le=65535, description="SMTP for mail to local domains (MX).")
    lmtp_port: int | None = Field(1024, ge=0, le=65535, description="LMTP, for another mail server in front.")
    imaps_port: int | None = Field(None, ge=0, le=65535, description="IMAP over TLS; needs a certificate.")
    pop3s_port: int | None = Field(None, ge=0, le=65535, description="POP3 over TLS; needs a certificate.")
    submissions_port: int | None = Field(None, ge=0, le=65535, description="Submission over TLS; needs a certificate.")
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain of the mail servers.")
    tls_key: Path | None = Field(None, description="PEM file with its private key.")
    hostname: str = Field("localhost", description="The name that the mail servers greet with.")
    domains: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Local domains, separated by commas: mail to them is delivered here, and only to them by MX."
    )
    smarthost: str | None = Field(
        None,
        pattern=r"^[^\s:]+(:\d{1,5})?$",
        description="host:port of the SMTP server that mail to foreign domains goes through.",
    )
    smarthost_username: str | None = Field(None, description="Login at the smarthost.")
    smarthost_password: SecretStr | None = Field(None, description="Password at the smarthost.")
    smarthost_security: str = Field("starttls", pattern="^(tls|starttls|none)$", description="tls, starttls or none.")
    tls_ca_file: Path | None = Field(
        None, description="PEM file of certificate authorities to trust beside the system's, when we are the client."
    )
    master_key: SecretStr | None = Field(
        None,
        description="32 bytes in base64: encrypts credentials at rest; several, separated by spaces, the newest last.",
    )
    master_key_file: Path | None = Field(
        None,
        description="A file with it, or several, one a line; unset: master.key in the data directory, made at first.",
    )
    net_allow: Annotated[tuple[Network, ...], NoDecode] = Field(
        (), description="Networks (CIDR, separated by commas) that remote accounts may reach besides public ones."
    )
    autoconfig_ispdb_url: str = Field(
        "https://autoconfig.thunderbird.net/v1.1/",
        description="Mozilla's database of mail servers by domain, which /v1/autoconfig asks; empty: none.",
    )
    dns_servers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="DNS servers for MX and SRV records (address or address:port, with commas); unset: the system's.",
    )
    session_remote: bool = Field(
        False,
        description="Whether POST /v1/session signs in with mailboxes of other mail servers, found by their address.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the API, separated by commas; tokens may allow more."
    )
    public_url: str | None = Field(
        None, description="Where browsers reach this install, as in https://mail.example.com; unset: as the caller did."
    )
    connect_redirect_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="URLs, separated by commas, that connect sessions may lead back to, with what lies below them."
    )
    imap_account_connections: int = Field(
        5, ge=2, le=50, description="IMAP connections of an account, with the one that watches; fewer where refused."
    )
    imap_host_connections: int = Field(4_000, ge=2, description="IMAP connections of all accounts to one mail server.")
    requests_per_minute: int = Field(
        6000, ge=1, description="Requests a minute that an account token, and an account by all its tokens, may make."
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="Networks (CIDR, separated by commas) of reverse proxies. X-Forwarded-For and X-Forwarded-Proto "
        "are believed from these alone; on the mail ports see POSTGATE_PROXY_PROTOCOL.",
    )
    proxy_protocol: bool = Field(
        True,
        description="Whether mail connections from the trusted proxies begin with a PROXY protocol header (version 1 "
        "or 2), which is then required. No other client may send one.",
    )
    http_head_bytes: int = Field(
        64 * 1024, ge=4096, description="Largest request line and header fields of an HTTP request together, in bytes."
    )
    http_head_seconds: float = Field(
        10.0, gt=0, description="How long a client may take to send request line and header fields, in seconds."
    )
    http_body_seconds: float = Field(
        30.0, gt=0, description="How long it may take for the body, in seconds, beyond what its size earns it."
    )
    http_body_bytes_per_second: int = Field(
        4096, ge=1, description="A body that arrives at this rate is never cut off, in bytes a second."
    )
    http_write_seconds: float = Field(
        60.0, gt=0, description="How long a client may read nothing of an answer that waits for it, in seconds."
    )
    http_idle_seconds: int = Field(
        30, ge=1, description="How long an HTTP connection may be idle between requests, in seconds."
    )
    http_strangers: int = Field(
        1000,
        ge=1,
        description="HTTP connections without a login at once; fewer where the limit of open files is low. Beyond it "
        "the one that has waited longest is closed.",
    )
    http_strangers_per_address: int = Field(
        100,
        ge=1,
        description="The same of one client address (IPv6: of one /64 network). Loopback and trusted proxies are "
        "exempt.",
    )
    mail_login_seconds: float = Field(
        60.0, gt=0, description="How long an IMAP, POP3 or submission session may last without a login, in seconds."
    )
    max_message_bytes: int = Field(50 * 1024 * 1024, ge=1024, description="Largest message that is taken, in bytes.")
    event_retention_days: int = Field(7, ge=1, description="How long events can be resumed, in days.")
    tombstone_retention_days: int = Field(
        90, ge=7, description="How long the difference since a state can be told whole, in days."
    )
    event_retention_count: int = Field(100_000, ge=1000, description="How many events an account keeps at most.")
    search_text_kb: int = Field(
        256,
        ge=0,
        le=16_384,
        description="Largest text of a message in the full-text index, in KiB; what is larger is looked for where the "
        "mail lives. 0: no index.",
    )
    search_account_mb: int = Field(
        512, ge=1, description="Text of an account in the full-text index, in MiB: the newest that fit."
    )
    search_total_mb: int = Field(
        4096,
        ge=1,
        description="Text of all accounts in the full-text index, in MiB; where it is more, the largest accounts give "
        "up their oldest, which are then looked for where the mail lives. On disk the index takes several times this.",
    )
    debug_loop_ms: int | None = Field(
        None,
        ge=1,
        description="For development: log and count each callback that holds the event loop for more CPU time than "
        "this, in ms, with its name and stack. Runs on asyncio's own event loop, and slows it down.",
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error.")

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: str | None) -> str | None:
        """Any usual spelling of the scheme, as SQLAlchemy wants it."""
        if value is None:
            return None
        scheme, _, rest = value.partition("://")
        if scheme not in ("postgres", "postgresql", "postgresql+asyncpg"):
            raise ValueError("must begin with postgresql://")
        return f"postgresql+asyncpg://{rest}"

    @field_validator("domains", "cors_origins", "connect_redirect_urls", "dns_servers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("net_allow", "trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        return value
