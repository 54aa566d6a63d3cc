"""Published tables, and running them again."""
