"""One self-contained HTML page about runs, with figures and tables."""
