"""What a subscriber follows: events, changes, counts, states."""
