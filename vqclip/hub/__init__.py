"""Published and stored models: catalogues, downloads, the store, and from names to files."""
