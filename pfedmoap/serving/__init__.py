"""An HTTP server for models: limits, token, TLS, and work that stops when its asker leaves."""
