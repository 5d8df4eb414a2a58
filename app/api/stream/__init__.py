"""The WebSocket stream: `session` handles frames, `following` reads the event log, `calls` makes REST calls."""
