"""Divides file descriptors, so that no kind of client can exhaust those of another.

A quarter is for files, the database and connections to other servers; the rest is for clients: mail programs and mail
servers, HTTP clients that are signed in, and HTTP clients that are not.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass

MOST = 1 << 20
"""Largest limit of descriptors that is requested."""
_OWN_LEAST = 64


@dataclass(frozen=True, slots=True)
class DescriptorBudget:
    """How many connections each kind of client may have open."""

    mail: int
    authenticated: int
    unauthenticated: int


def open_files() -> int:
    """Raise the limit of open files as far as the system allows, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return MOST if soft == resource.RLIM_INFINITY else soft


def divide(descriptors: int) -> DescriptorBudget:
    """Divide descriptors: of the clients' part, 2/5 for mail, 2/5 for signed-in and 1/5 for other HTTP clients."""
    clients = descriptors - max(_OWN_LEAST, descriptors // 4)
    mail = authenticated = max(1, clients * 2 // 5)
    return DescriptorBudget(mail, authenticated, max(1, clients - mail - authenticated))
