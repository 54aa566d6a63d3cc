"""The server: drawing cohorts, checking uploads, averaging, the pool of experts."""
