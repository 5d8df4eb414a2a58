"""MIME: what is inside a message's bytes, and bytes for a message to be sent. No I/O, and no input makes it raise."""
