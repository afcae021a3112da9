"""vqclip: text-to-image in the terminal, VQGAN pictures guided by CLIP."""

__version__ = "0.1.0"
