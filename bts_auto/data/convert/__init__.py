"""Bringing datasets of other layouts into the raw format."""
