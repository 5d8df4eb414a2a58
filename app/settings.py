"""All settings, with defaults and units. The environment variable is POSTGATE_ and the name in capitals."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Network = IPv4Network | IPv6Network


class Settings(BaseSettings):
    """Settings of one Postgate process. Port 0 means any free port; None disables a server."""

    model_config = SettingsConfigDict(env_prefix="POSTGATE_", extra="forbid", frozen=True)

    data_dir: Path = Field(Path("data"), description="Directory for the database, message files and the master key.")
    database_url: str | None = Field(
        None, description="postgresql://… to use PostgreSQL. Unset: SQLite in the data directory."
    )
    bind: str = Field("127.0.0.1", description="Address that all servers listen on.")
    http_port: int = Field(8080, ge=0, le=65535, description="Port of REST and WebSocket.")
    imap_port: int | None = Field(
        1143, ge=0, le=65535, description="Port of IMAP, with STARTTLS if a certificate is set."
    )
    pop3_port: int | None = Field(
        1110, ge=0, le=65535, description="Port of POP3, with STARTTLS if a certificate is set."
    )
    submission_port: int | None = Field(
        1587, ge=0, le=65535, description="Port of SMTP submission, with STARTTLS if a certificate is set."
    )
    smtp_port: int | None = Field(1025, ge=0, le=65535, description="Port of SMTP for mail to local domains (MX).")
    lmtp_port: int | None = Field(
        1024, ge=0, le=65535, description="Port of LMTP, for another mail server in front of Postgate."
    )
    imaps_port: int | None = Field(None, ge=0, le=65535, description="Port of IMAP over TLS. Needs a certificate.")
    pop3s_port: int | None = Field(None, ge=0, le=65535, description="Port of POP3 over TLS. Needs a certificate.")
    submissions_port: int | None = Field(
        None, ge=0, le=65535, description="Port of submission over TLS. Needs a certificate."
    )
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain of the mail servers.")
    tls_key: Path | None = Field(None, description="PEM file with the private key of the certificate.")
    hostname: str = Field("localhost", description="Host name that the mail servers announce.")
    domains: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Local domains, separated by commas. Mail to them is delivered to embedded accounts; the MX "
        "accepts no other.",
    )
    smarthost: str | None = Field(
        None,
        pattern=r"^[^\s:]+(:\d{1,5})?$",
        description="host:port of the SMTP server that sends mail to other domains.",
    )
    smarthost_username: str | None = Field(None, description="User name at the smarthost.")
    smarthost_password: SecretStr | None = Field(None, description="Password at the smarthost.")
    smarthost_security: str = Field("starttls", pattern="^(tls|starttls|none)$", description="tls, starttls or none.")
    tls_ca_file: Path | None = Field(
        None,
        description="PEM file of certificate authorities to trust in addition to the system's, for outgoing "
        "connections.",
    )
    master_key: SecretStr | None = Field(
        None,
        description="32 bytes in base64 that encrypt stored credentials. Several keys: separated by spaces, "
        "newest last.",
    )
    master_key_file: Path | None = Field(
        None,
        description="File with the master key, or one key a line. Unset: master.key in the data directory, "
        "created if missing.",
    )
    net_allow: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="Networks (CIDR, separated by commas) that external accounts may connect to, besides public ones.",
    )
    autoconfig_ispdb_url: str = Field(
        "https://autoconfig.thunderbird.net/v1.1/",
        description="URL of Mozilla's database of mail servers, used by /v1/autoconfig. Empty: not used.",
    )
    dns_servers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="DNS servers for MX and SRV records (address or address:port, separated by commas). Unset: "
        "the system's.",
    )
    session_remote: bool = Field(
        False,
        description="Whether POST /v1/session accepts mailboxes on other mail servers, found by their address.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Web origins whose pages may call the API, separated by commas. Tokens can allow others."
    )
    public_url: str | None = Field(
        None,
        description="URL of this installation for browsers, such as https://mail.example.com. Unset: the URL of "
        "the request.",
    )
    connect_redirect_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="URLs that connect sessions may return to, with all paths below them, separated by commas."
    )
    imap_account_connections: int = Field(
        5, ge=2, le=50, description="Largest number of IMAP connections of one account, including its watch."
    )
    imap_host_connections: int = Field(
        4_000, ge=2, description="Largest number of IMAP connections of all accounts to one mail server."
    )
    requests_per_minute: int = Field(
        6000, ge=1, description="Requests a minute of one account token, and of one account with all its tokens."
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field(
        (),
        description="Networks (CIDR, separated by commas) of reverse proxies. X-Forwarded-For and "
        "X-Forwarded-Proto are read from these only; for mail ports see POSTGATE_PROXY_PROTOCOL.",
    )
    proxy_protocol: bool = Field(
        True,
        description="Whether mail connections from trusted proxies must begin with a PROXY protocol header "
        "(version 1 or 2). Other clients must not send one.",
    )
    http_head_bytes: int = Field(
        64 * 1024, ge=4096, description="Largest request line and header fields together, in bytes."
    )
    http_head_seconds: float = Field(
        10.0, gt=0, description="Time for a client to send the request line and header fields, in seconds."
    )
    http_body_seconds: float = Field(
        30.0,
        gt=0,
        description="Time for a client to send a body, in seconds, in addition to the time by "
        "POSTGATE_HTTP_BODY_BYTES_PER_SECOND.",
    )
    http_body_bytes_per_second: int = Field(
        4096, ge=1, description="A body that arrives at this rate is never cut off, in bytes a second."
    )
    http_write_seconds: float = Field(
        60.0, gt=0, description="Time that a client may leave an answer unread, in seconds."
    )
    http_idle_seconds: int = Field(
        30, ge=1, description="Time that an HTTP connection may be idle between requests, in seconds."
    )
    http_strangers: int = Field(
        1000,
        ge=1,
        description="Largest number of HTTP connections without a login; fewer if the limit of open files is low. "
        "Beyond it, the one that has waited longest is closed.",
    )
    http_strangers_per_address: int = Field(
        100,
        ge=1,
        description="Largest number of HTTP connections without a login of one client address (IPv6: of one /64 "
        "network). Loopback and trusted proxies are exempt.",
    )
    mail_login_seconds: float = Field(
        60.0, gt=0, description="Time that an IMAP, POP3 or submission session may last without a login, in seconds."
    )
    max_message_bytes: int = Field(50 * 1024 * 1024, ge=1024, description="Largest message that is accepted, in bytes.")
    event_retention_days: int = Field(7, ge=1, description="Time that clients can resume events, in days.")
    tombstone_retention_days: int = Field(
        90, ge=7, description="Time that /changes can report all changes since a state, in days."
    )
    event_retention_count: int = Field(
        100_000, ge=1000, description="Largest number of events that an account's log holds."
    )
    search_text_kb: int = Field(
        256,
        ge=0,
        le=16_384,
        description="Largest text of a message in the full-text index, in KiB. Messages with more text are "
        "searched on the mail server. 0: no index.",
    )
    search_account_mb: int = Field(
        512,
        ge=1,
        description="Largest total text of one account in the full-text index, in MiB. The oldest texts are "
        "removed first.",
    )
    search_total_mb: int = Field(
        4096,
        ge=1,
        description="Largest total text of all accounts in the full-text index, in MiB. The largest accounts lose "
        "their oldest texts first. On disk the index takes several times as much.",
    )
    debug_loop_ms: int | None = Field(
        None,
        ge=1,
        description="For development: log and count each callback that uses more CPU time than this, in ms, with "
        "its name and stack. Uses asyncio's own event loop, which is slower.",
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error.")

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, value: str | None) -> str | None:
        """Accept the usual spellings of the scheme, and return SQLAlchemy's."""
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
