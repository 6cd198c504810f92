"""Rollouts under virtual time, thousands of them: the real machine and the real test, in a world of numbers. Pure."""
