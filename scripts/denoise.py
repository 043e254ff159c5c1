"""`gan-denoise denoise`: clean files and folders."""

from gan_denoise.cli import main

if __name__ == "__main__":
    main("denoise")
