"""Train nnU-Net for a given number of steps, unless that is done, and validate it. Run by nnU-Net's own interpreter.

python nnunet_train.py DATASET CONFIGURATION FOLD EPOCHS ITERATIONS [--seed N] [--plans NAME] [--trainer NAME]
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from nnunetv2.run.run_training import get_trainer_from_args

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("dataset", "configuration", "fold"):
        parser.add_argument(name)
    for name in ("epochs", "iterations"):
        parser.add_argument(name, type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--plans", default="nnUNetPlans")
    parser.add_argument("--trainer", default="nnUNetTrainer")
    parser.add_argument("--no-validation", action="store_true")
    given = parser.parse_args()
    if given.seed is not None:  # nnU-Net has no seed of its own; this fixes what its main process draws
        random.seed(given.seed)
        np.random.seed(given.seed)  # noqa: NPY002
        torch.manual_seed(given.seed)
    trainer = get_trainer_from_args(
        given.dataset, given.configuration, int(given.fold), given.trainer, given.plans, device=torch.device("cpu")
    )
    # Its trainer reads the length from itself, so that the learning rate is scaled to it.
    trainer.num_epochs = given.epochs
    trainer.num_iterations_per_epoch = given.iterations
    trainer.num_val_iterations_per_epoch = max(1, given.iterations // 5)
    final, latest = (Path(trainer.output_folder) / f"checkpoint_{name}.pth" for name in ("final", "latest"))
    saved = next((path for path in (final, latest) if path.exists()), None)
    if saved is not None:
        trainer.initialize()
        trainer.load_checkpoint(str(saved))
    if saved != final:
        trainer.save_every = 4
        trainer.run_training()
    if not given.no_validation:
        trainer.perform_actual_validation(False)
