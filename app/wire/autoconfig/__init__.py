"""Discovery of an account's mail servers, without I/O: Mozilla's and Microsoft's formats, DNS names, and a table."""
