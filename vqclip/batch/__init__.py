"""Many pictures from a job file: reading jobs, doing them on one machine or many, and recording what came of each."""
