"""The measuring service: HTTP in front of the log."""
