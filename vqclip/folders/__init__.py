"""Folders of pictures: which files are meant, their embeddings, and what is remembered of these."""
