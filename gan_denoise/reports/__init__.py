"""What people look at: pages of one file, pictures of spectrograms."""
