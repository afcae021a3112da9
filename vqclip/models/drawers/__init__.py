"""What draws: from numbers that can be optimised to pictures, a file for each way."""
