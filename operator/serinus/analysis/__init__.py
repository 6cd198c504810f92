"""Judging a version. Everything here is pure: no I/O, no clock, the same numbers give the same verdict."""
