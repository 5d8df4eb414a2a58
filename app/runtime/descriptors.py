"""File descriptors, divided so that no kind of client can take those of another.

A quarter is for files, the database and connections to other servers; the rest is for clients: mail programs and mail
servers, HTTP clients that are signed in, and HTTP clients that are not.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass

MOST = 1 << 20
"""More descriptors than this are not asked for."""
_OWN_LEAST = 64


@dataclass(frozen=True, slots=True)
class DescriptorBudget:
    """How many connections each kind of client may have open."""

    mail: int
    members: int
    strangers: int


def open_files() -> int:
    """How many descriptors this process may have, after the limit was raised as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return MOST if soft == resource.RLIM_INFINITY else soft


def divide(descriptors: int) -> DescriptorBudget:
    """The shares of so many descriptors: 2/5 of what clients have for mail, 2/5 for members, 1/5 for strangers."""
    clients = descriptors - max(_OWN_LEAST, descriptors // 4)
    mail = members = max(1, clients * 2 // 5)
    return DescriptorBudget(mail, members, max(1, clients - mail - members))
