"""Bare loops around a library: a line of JSON in, a picture out. See wire.py for the form.

Each is a program of its own, run by the Python or Node.js that has its library.
"""
