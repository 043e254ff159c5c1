"""`python -m gan_denoise.cli` is `gan-denoise`."""

from gan_denoise.cli.app import main

if __name__ == "__main__":
    main()
