"""Sign-in sessions, passwords, and connecting an external account."""
