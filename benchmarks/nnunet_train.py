"""Train nnU-Net for a given number of steps, unless that is done, and validate it. Run by nnU-Net's own interpreter.

python nnunet_train.py DATASET CONFIGURATION FOLD EPOCHS ITERATIONS [SEED]
"""

import random
import sys
from pathlib import Path

import numpy as np
import torch
from nnunetv2.run.run_training import get_trainer_from_args

if __name__ == "__main__":
    dataset, configuration, fold, epochs, iterations, *seed = sys.argv[1:]
    for one in seed:  # nnU-Net has no seed of its own; this fixes what its main process draws
        random.seed(int(one))
        np.random.seed(int(one))  # noqa: NPY002
        torch.manual_seed(int(one))
    trainer = get_trainer_from_args(
        dataset, configuration, int(fold), "nnUNetTrainer", "nnUNetPlans", device=torch.device("cpu")
    )
    # Its trainer reads the length from itself, so that the learning rate is scaled to it.
    trainer.num_epochs = int(epochs)
    trainer.num_iterations_per_epoch = int(iterations)
    trainer.num_val_iterations_per_epoch = max(1, int(iterations) // 5)
    final, latest = (Path(trainer.output_folder) / f"checkpoint_{name}.pth" for name in ("final", "latest"))
    saved = next((path for path in (final, latest) if path.exists()), None)
    if saved is not None:
        trainer.initialize()
        trainer.load_checkpoint(str(saved))
    if saved != final:
        trainer.save_every = 4
        trainer.run_training()
    trainer.perform_actual_validation(False)
