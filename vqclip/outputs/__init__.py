"""Everything a run leaves on disk or on the screen; each part watches `Step`s and knows nothing else."""
