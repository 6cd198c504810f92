"""Where facts are kept: SQLite or PostgreSQL, by SQLAlchemy; migrations by Alembic."""
