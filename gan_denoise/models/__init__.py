"""The networks: generators, discriminators, their layers, and what they cost in arithmetic."""
