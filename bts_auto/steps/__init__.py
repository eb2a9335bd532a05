"""The pipeline's verbs as plain functions: the public Python API, and all that the commands call.

Every verb takes the dataset (id, name or None for the default), the workspace folder (None: the default) and an
observer, and returns an :class:`Outcome`. What is wrong with everything raises a `BtsError`; what is wrong with one
case stands in `Outcome.failures`. Nothing heavy is imported before a verb is called.
"""

from bts_auto.steps.demo import demo
from bts_auto.steps.evaluation import evaluate, metrics
from bts_auto.steps.members import train
from bts_auto.steps.models import export_model, import_nnunet_model, install_model
from bts_auto.steps.place import Outcome
from bts_auto.steps.prediction import predict
from bts_auto.steps.prepare import convert_brats, fingerprint, plan, plan_and_preprocess, preprocess
from bts_auto.steps.recipes import recipes
from bts_auto.steps.scoring import choose, clean_caches, combine
from bts_auto.steps.training import stop_training

__all__ = [
    "Outcome",
    "choose",
    "clean_caches",
    "combine",
    "convert_brats",
    "demo",
    "evaluate",
    "export_model",
    "fingerprint",
    "import_nnunet_model",
    "install_model",
    "metrics",
    "plan",
    "plan_and_preprocess",
    "predict",
    "preprocess",
    "recipes",
    "stop_training",
    "train",
]
