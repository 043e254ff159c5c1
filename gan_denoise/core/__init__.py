"""What all parts need: errors, atomic files, processes, random streams, tables, decibels, text.

Imports nothing else of the package.
"""
