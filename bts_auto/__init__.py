"""bts_auto: a self-configuring pipeline for brain-tumour segmentation.

The public API is `bts_auto.Predictor`, a model that stays loaded, and `bts_auto.steps`, the commands as functions.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bts_auto.steps.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    """Load `Predictor` when it is first asked for, so that importing the package stays cheap."""
    if name == "Predictor":
        from bts_auto.steps.predictor import Predictor

        return Predictor
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
