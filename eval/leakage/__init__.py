"""What a server can infer about clients from what they upload: their classes, and membership."""
