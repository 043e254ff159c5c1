"""`gan-denoise finetune`: train against the discriminator."""

from gan_denoise.cli import main

if __name__ == "__main__":
    main("finetune")
