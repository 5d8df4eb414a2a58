"""Accounts: their rows, servers, quotas, polling and discovery of server settings."""
