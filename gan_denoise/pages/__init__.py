"""The pages of `gan-denoise serve`: a server on Starlette, its sessions, its queue, its pages.

`app.create_app` puts them together; `server.serve` runs them. They need the `web` extra.
"""
