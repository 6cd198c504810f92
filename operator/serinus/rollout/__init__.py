"""Decisions, pure: the plan, the machine, and what is so between releases."""
