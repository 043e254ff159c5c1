"""`gan-denoise evaluate`: measure a model on paired recordings."""

from gan_denoise.cli import main

if __name__ == "__main__":
    main("evaluate")
