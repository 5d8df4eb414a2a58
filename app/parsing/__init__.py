"""Expensive parsing of untrusted content, in separate processes with limits on time and memory."""
