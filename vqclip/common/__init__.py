"""What every room uses: errors, files, paths, hashes, pictures in and out, the machine."""
