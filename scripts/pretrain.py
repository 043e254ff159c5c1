"""`gan-denoise pretrain`: train the autoencoder."""

from gan_denoise.cli import main

if __name__ == "__main__":
    main("pretrain")
