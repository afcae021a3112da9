"""What draws and what sees: VQGAN, prior, CLIP, and their quicker equals."""
