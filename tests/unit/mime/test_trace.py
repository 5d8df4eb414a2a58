"""Trace fields of a receiving server."""

from __future__ import annotations

from app.mime.trace import received_field, return_path_field


def test_received_says_from_whom_by_whom_and_when() -> None:
    field = received_field(
        helo="client.example",
        peer="192.0.2.1",
        by="mx.example",
        protocol="ESMTPS",
        queue_id="q1",
        date_ms=1_704_104_430_000,
        recipient="a@b.example",
    )

    assert field == (
        b"Received: from client.example ([192.0.2.1])\r\n\tby mx.example with ESMTPS id q1\r\n"
        b"\tfor <a@b.example>;\r\n\tMon, 01 Jan 2024 10:20:30 +0000\r\n"
    )


def test_a_helo_cannot_break_out_of_its_field() -> None:
    field = received_field(
        helo="a\r\nBcc: x (\x00é" + "y" * 1_000, peer="::1", by="mx", protocol="SMTP", queue_id="q", date_ms=0
    )

    assert field.count(b"\r\n") == 3
    assert b"(\x00" not in field
    assert len(field) < 500
    assert received_field(helo="", peer="", by="b", protocol="SMTP", queue_id="q", date_ms=0).startswith(
        b"Received: from unknown ([])"
    )


def test_return_path_holds_the_sender_alone() -> None:
    assert return_path_field("") == b"Return-Path: <>\r\n"
    assert return_path_field("a@b.example") == b"Return-Path: <a@b.example>\r\n"
    assert return_path_field("a>\r\nX: y") == b"Return-Path: <aX:y>\r\n"
