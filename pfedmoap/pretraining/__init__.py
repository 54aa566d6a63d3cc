"""How the embedded CLIP was made."""
