"""A delivery status notification as a server elsewhere writes it."""

from __future__ import annotations


def report(about: str, *outcomes: tuple[str, str], returned: str = "") -> bytes:
    """As a server elsewhere writes it; `outcomes` are address and action."""
    blocks = "".join(
        f"\r\nFinal-Recipient: rfc822; {address}\r\nAction: {action}\r\nStatus: 5.2.2\r\n"
        f"Diagnostic-Code: smtp; 552 5.2.2 Full\r\n"
        for address, action in outcomes
    )
    return (
        "From: MAILER-DAEMON@there.example\r\nSubject: Report\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\n\r\nSorry.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"{about}Reporting-MTA: dns; there.example\r\n{blocks}\r\n"
        f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\n{returned}\r\n--b--\r\n"
    ).encode()
