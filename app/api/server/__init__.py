"""The HTTP server: uvicorn, with limits on connections, on the time and size of requests, and on WebSocket frames."""
