"""Measuring delivery: what happened, kept as facts; five numbers, computed from them; one page."""
