"""A federation on several machines: a server, and sites that each have their own data."""
