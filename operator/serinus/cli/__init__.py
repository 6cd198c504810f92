"""`serinus`: the operator, and what pipelines and people ask it."""

from serinus.cli.app import app

__all__ = ["app"]
