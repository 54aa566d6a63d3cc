"""What prompt methods share: initial contexts, tuning, sets of prompts."""
