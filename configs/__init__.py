"""The ground that every stage stands on: presets, their schema, run folders, random streams, progress.

Imports nothing of the other packages, and nothing heavier than numpy, so that a usage error answers at once.
"""
