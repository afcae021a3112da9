"""Other tools' settings."""
