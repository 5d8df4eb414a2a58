"""Changes of mail: messages, mailboxes, keywords, threads, bulk changes, imports."""
