"""Composing, submissions, delivery to embedded mailboxes, delivery reports."""
