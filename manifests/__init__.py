"""The language that origin and edge both speak: formats, names, proofs.

Everything here is pure: no I/O, no clock, no randomness, no asyncio, no logging.
FORMAT.md beside this file is the binding text; tests load its worked examples.
"""
