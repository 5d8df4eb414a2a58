"""Figures: Postgate beside a bare client and beside Dovecot, in one run. `python -m benchmarks --help`."""
