"""Joining what several trained models say: combining folders, and choosing the best combination on cross-validation."""
