"""Training and reading runs from Python; `pfedmoap` has the public names."""
