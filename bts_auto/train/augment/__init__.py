"""Augmentation: one file per transform; parameters are drawn first, then applied (torch, on a CPU or a GPU)."""
