"""MIME: parsing of received messages, and composing of messages to send. No I/O; parsing never raises."""
