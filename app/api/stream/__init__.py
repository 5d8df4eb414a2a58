"""The WebSocket stream: `session` talks, `following` reads the log for it, `calls` are REST calls over the socket."""
