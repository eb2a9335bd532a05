"""Train nnU-Net for a given wall time, its learning rate scaled to that, then validate. Run by its own interpreter.

python nnunet_budget.py DATASET CONFIGURATION FOLD SECONDS

Start and validation are not counted: the time is the training's alone.
"""

import sys
import time
from pathlib import Path

import torch
from nnunetv2.run.run_training import get_trainer_from_args

ITERATIONS, VALIDATION_ITERATIONS = 50, 2
EXPONENT = 0.9  # of its polynomial schedule


class TimedPoly:
    """nnU-Net's schedule over wall time instead of epochs."""

    def __init__(self, optimizer: torch.optim.Optimizer, lr: float, seconds: float) -> None:
        self.optimizer, self.lr, self.seconds = optimizer, lr, seconds
        self.start = time.monotonic()

    @property
    def fraction(self) -> float:
        """Share of the time that is over."""
        return min(1.0, (time.monotonic() - self.start) / self.seconds)

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rate for now."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * (1 - self.fraction) ** EXPONENT


def train(trainer, seconds: float) -> int:
    """Epochs until the time is over; returns the number of steps."""
    trainer.on_train_start()
    schedule = TimedPoly(trainer.optimizer, trainer.initial_lr, seconds)
    trainer.lr_scheduler = schedule
    steps = 0
    while schedule.fraction < 1:
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        outputs = []
        while len(outputs) < ITERATIONS and schedule.fraction < 1:
            schedule.step()
            outputs.append(trainer.train_step(next(trainer.dataloader_train)))
        steps += len(outputs)
        trainer.on_train_epoch_end(outputs)
        with torch.no_grad():
            trainer.on_validation_epoch_start()
            held_out = [trainer.validation_step(next(trainer.dataloader_val)) for _ in range(VALIDATION_ITERATIONS)]
            trainer.on_validation_epoch_end(held_out)
        trainer.on_epoch_end()
    trainer.on_train_end()
    return steps


if __name__ == "__main__":
    dataset, configuration, fold, budget = sys.argv[1:]
    made = get_trainer_from_args(
        dataset, configuration, int(fold), "nnUNetTrainer", "nnUNetPlans", device=torch.device("cpu")
    )
    final = Path(made.output_folder) / "checkpoint_final.pth"
    if final.exists():
        made.initialize()
        made.load_checkpoint(str(final))
    else:
        (final.parent / "steps.txt").write_text(f"{train(made, float(budget))}\n")
    made.perform_actual_validation(False)
