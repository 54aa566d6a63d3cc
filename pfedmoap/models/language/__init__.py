"""Causal language models and multiple-choice questions: the second modality, for FedSP."""
