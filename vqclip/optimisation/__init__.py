"""The descent: where it starts, its steps and what they report."""
