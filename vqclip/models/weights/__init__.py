"""Reading weights safely: what a file is, and its tensors, without running anything in it."""
