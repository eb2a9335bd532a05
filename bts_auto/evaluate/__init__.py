"""Scores: how well a label map or a probability map agrees with a reference."""
