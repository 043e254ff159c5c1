"""Does a denoiser help all speakers alike? Groups compared, tests, a page."""
