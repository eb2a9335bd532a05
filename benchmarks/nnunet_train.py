"""Train nnU-Net for a given number of steps, unless that is done, and validate it. Run by nnU-Net's own interpreter.

python nnunet_train.py DATASET CONFIGURATION FOLD EPOCHS ITERATIONS
"""

import sys
from pathlib import Path

import torch
from nnunetv2.run.run_training import get_trainer_from_args

if __name__ == "__main__":
    dataset, configuration, fold, epochs, iterations = sys.argv[1:]
    trainer = get_trainer_from_args(
        dataset, configuration, int(fold), "nnUNetTrainer", "nnUNetPlans", device=torch.device("cpu")
    )
    # Its trainer reads the length from itself, so that the learning rate is scaled to it.
    trainer.num_epochs = int(epochs)
    trainer.num_iterations_per_epoch = int(iterations)
    trainer.num_val_iterations_per_epoch = max(1, int(iterations) // 5)
    final = Path(trainer.output_folder) / "checkpoint_final.pth"
    if final.exists():
        trainer.initialize()
        trainer.load_checkpoint(str(final))
    else:
        trainer.run_training()
    trainer.perform_actual_validation(False)
