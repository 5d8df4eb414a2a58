"""Who may call: tokens, tickets, passwords, limits, idempotency; what a limited token sees."""
