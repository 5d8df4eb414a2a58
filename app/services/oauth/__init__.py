"""OAuth apps, consents, and the tokens for mail servers."""
