"""Lists, search, messages, bodies and attachments."""
