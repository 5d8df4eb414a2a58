"""What tells a mail program its servers, without I/O: Mozilla's format, Microsoft's, DNS names, and a table."""
