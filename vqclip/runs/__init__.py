"""One run and its folder: start, stop, go on, make again."""
