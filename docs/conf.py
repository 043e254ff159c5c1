"""Settings of Sphinx: `make docs` builds build/docs/index.html, which opens from the disk.

Pages are Markdown (MyST) that GitHub shows as well; `python.md` takes its text from the docstrings.
No page asks another host for anything: the theme's fonts, scripts and search lie beside the pages.
"""

import re

from gan_denoise import __version__

project = "gan-denoise"
version = release = __version__
copyright = "the authors of gan-denoise, MIT licence"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["*.ipynb"]
highlight_language = "text"  # of blocks that name none
default_role = "literal"  # of docstrings: `name` is code

myst_heading_anchors = 4  # links to headings as GitHub makes them

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "gan-denoise"
html_show_sphinx = False
html_copy_source = False
html_extra_path = ["../gan_denoise/examples/noisy_speech.flac", "denoised_speech.flac",
                   "../gan_denoise/examples/clean_speech.flac"]


def setup(app):
    """Let links to Markdown files outside of this folder give the file itself."""
    app.connect("source-read", _link_files)


def _link_files(app, page, source):
    source[0] = re.sub(r"\]\((\.\./[\w/]+\.md)\)", r"](path:\1)", source[0])
