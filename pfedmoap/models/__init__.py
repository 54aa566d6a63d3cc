"""Frozen models: CLIPs, language models, protected models, black-box models."""
