"""Looking and measuring: scores, labels, search, galleries, reconstructions."""
