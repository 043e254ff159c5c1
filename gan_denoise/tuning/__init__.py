"""Search for settings: a space, trials in processes of their own, a study and what it found."""
