"""OAuth apps, consents and the tokens that they give for mail servers."""
