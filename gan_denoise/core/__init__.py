"""What every part needs and no part owns: errors, files that appear whole, processes, text.

Imports nothing else of the package.
"""
