"""HTML report pages and pictures of spectrograms."""
