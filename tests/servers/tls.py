"""Certificates for tests: one authority, a good server certificate, and the two ways to be wrong."""

import datetime
import os
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import trustme

GOOD_ADDRESS = "127.0.0.1"
WRONG_HOST_ADDRESS = "127.0.0.2"
EXPIRED_ADDRESS = "127.0.0.3"
NO_AUTHORITIES = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
"""An environment without the system's authorities: OpenSSL takes 20 ms to read them for each context."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its key, each a PEM file."""

    chain: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """Return a context for a server that shows this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """`good` names localhost, 127.0.0.1 and mail.test; `wrong_host` another host; `expired` ended years ago."""

    authority: Path
    good: Certificate
    wrong_host: Certificate
    expired: Certificate

    def client_context(self) -> ssl.SSLContext:
        """Return a context that verifies host and chain, and trusts our authority alone."""
        return ssl.create_default_context(cafile=str(self.authority))


def make_tls_files(folder: Path) -> TlsFiles:
    """Make an authority and its certificates as PEM files in `folder`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return TlsFiles(
        authority=folder / "authority.pem",
        good=_write(authority.issue_cert("localhost", GOOD_ADDRESS, "mail.test"), folder / "good"),
        wrong_host=_write(authority.issue_cert("elsewhere.test"), folder / "wrong-host"),
        expired=_write(
            authority.issue_cert(
                "localhost", EXPIRED_ADDRESS, not_before=past, not_after=past + datetime.timedelta(days=30)
            ),
            folder / "expired",
        ),
    )


def self_signed(folder: Path) -> Certificate:
    """A certificate for the good address that nobody vouches for."""
    certificate = Certificate(folder / "self-signed.chain.pem", folder / "self-signed.key.pem")
    subject = ["-subj", "/CN=localhost", "-addext", f"subjectAltName=IP:{GOOD_ADDRESS}"]
    files = ["-keyout", str(certificate.key), "-out", str(certificate.chain)]
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*argv, *subject, *files], check=True, capture_output=True)
    return certificate


def _write(leaf: trustme.LeafCert, stem: Path) -> Certificate:
    certificate = Certificate(stem.with_suffix(".chain.pem"), stem.with_suffix(".key.pem"))
    for position, pem in enumerate(leaf.cert_chain_pems):
        pem.write_to_path(certificate.chain, append=position > 0)
    leaf.private_key_pem.write_to_path(certificate.key)
    return certificate
