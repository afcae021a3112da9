"""Settings, prompts and words: what the user asked for, checked; no torch."""
