"""An example of each frame of the stream, for asyncapi.yaml."""

from __future__ import annotations

from typing import Any

_ACCOUNT = "acc_5f0c2d1e9b7a"
_INBOX = "mbx_3a9d7c1f20be"
_CURSOR = "st_1K7pXq3mZt"
_TIME = "2026-11-30T09:00:00Z"
_REQUEST_ID = "req_Zk3v8Q1xT5bN7cW2mR4y"

FRAME_EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "SubscribeFrame": [
        {"type": "subscribe", "sub_id": "all", "accounts": "*"},
        {
            "type": "subscribe",
            "sub_id": "inbox",
            "accounts": [_ACCOUNT],
            "mailboxes": ["inbox"],
            "types": ["message.*", "counts"],
            "view": "ids",
            "after": _CURSOR,
        },
    ],
    "UnsubscribeFrame": [{"type": "unsubscribe", "sub_id": "inbox"}],
    "AckFrame": [{"type": "ack", "cursor": _CURSOR, "account_id": _ACCOUNT, "sub_id": "inbox"}],
    "AuthFrame": [{"type": "auth", "token": "pgt_…"}],
    "RequestFrame": [
        {
            "type": "request",
            "id": "1",
            "method": "PATCH",
            "path": "/v1/me/messages/msg_8e41f0a7c2d5",
            "headers": {"Client-Id": "tab-1"},
            "body": {"keywords": {"add": ["$seen"]}},
        }
    ],
    "PingFrame": [{"type": "ping", "id": "7"}],
    "PongFrame": [{"type": "pong", "id": "7"}],
    "HelloFrame": [
        {
            "type": "hello",
            "session_id": "ses_2c7b9e04d1fa",
            "heartbeat_seconds": 25,
            "limits": {"subscriptions": 100, "calls": 8},
            "server_time": _TIME,
        }
    ],
    "SubscribedFrame": [
        {
            "type": "subscribed",
            "sub_id": "all",
            "cursor": {_ACCOUNT: _CURSOR},
            "state": {_ACCOUNT: _CURSOR},
            "sync": {
                _ACCOUNT: {
                    "status": "live",
                    "mode": "embedded",
                    "lag_seconds": 0,
                    "checked_at": _TIME,
                    "incomplete": 0,
                    "incomplete_mailboxes": [],
                }
            },
        }
    ],
    "AuthenticatedFrame": [{"type": "authenticated", "expires_at": None}],
    "EventFrame": [
        {
            "type": "event",
            "sub_ids": ["all"],
            "seq": 42,
            "cursor": _CURSOR,
            "event": {
                "specversion": "1.0",
                "id": f"{_ACCOUNT}/42",
                "source": f"/v1/accounts/{_ACCOUNT}",
                "type": "message.updated",
                "subject": "msg_8e41f0a7c2d5",
                "time": _TIME,
                "datacontenttype": "application/json",
                "data": {
                    "account_id": _ACCOUNT,
                    "mailbox_id": _INBOX,
                    "message_id": "msg_8e41f0a7c2d5",
                    "changed": ["keywords"],
                    "keywords": ["$seen"],
                    "caused_by": {"request_id": _REQUEST_ID, "client_id": "tab-1"},
                },
            },
        }
    ],
    "StateFrame": [{"type": "state", "states": {_ACCOUNT: _CURSOR}}],
    "GapFrame": [
        {
            "type": "gap",
            "account_id": _ACCOUNT,
            "from": _CURSOR,
            "to": "st_1K7pXq9wBd",
            "reason": "The events after this position are no longer stored: call /changes",
        }
    ],
    "CountsFrame": [
        {
            "type": "counts",
            "account_id": _ACCOUNT,
            "mailboxes": [
                {"mailbox_id": _INBOX, "unread": 3, "total": 120},
                {"mailbox_id": "mbx_77b0e6d2c943", "unread": 0, "total": 18},
            ],
        }
    ],
    "ResponseFrame": [
        {"type": "response", "id": "1", "status": 204, "headers": {"request-id": _REQUEST_ID}, "body": None}
    ],
    "LifecycleFrame": [{"type": "lifecycle", "event": "token.expiring", "expires_at": _TIME}],
    "ErrorFrame": [
        {
            "type": "error",
            "problem": {
                "type": "/v1/problems/invalid_request",
                "title": "The request is not valid",
                "status": 422,
                "detail": "Unknown event type `message.create`. Did you mean `message.created`?",
                "code": "invalid_request",
                "retryable": False,
                "fix": "Correct the fields that `errors` names and send the request again.",
                "request_id": _REQUEST_ID,
                "origin": None,
                "errors": [
                    {
                        "detail": "Unknown event type `message.create`. Did you mean `message.created`?",
                        "pointer": "/types/0",
                        "parameter": None,
                    }
                ],
            },
            "sub_id": "all",
            "id": None,
        }
    ],
    "ByeFrame": [
        {
            "type": "bye",
            "code": 1001,
            "reason": "the server restarts",
            "reconnect_after": 3,
            "cursor": {_ACCOUNT: _CURSOR},
        }
    ],
}
"""Examples by the name of the frame's model."""
