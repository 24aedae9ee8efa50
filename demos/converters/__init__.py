"""Demonstration file formats, one file each."""
