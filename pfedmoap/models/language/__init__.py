"""Causal language models on multiple-choice questions, for FedSP."""
