"""Access: tokens, tickets, passwords, rate limits, idempotency, and what a limited token sees."""
