"""bts_auto: a self-configuring pipeline for brain-tumour segmentation. The public API is `bts_auto.steps`."""

__version__ = "0.1.0"
