"""nnU-Net's own training steps, or samples of its own loader, timed. Run by nnU-Net's own interpreter; prints JSON.

    python train_peer.py steps  DATASET CONFIGURATION COUNT
    python train_peer.py loader DATASET CONFIGURATION COUNT

`steps`: its loop's two calls, ``train_step(next(dataloader_train))``, after as many that are not counted. `loader`:
samples of its training loader on one thread (``nnUNet_n_proc_DA=0``: in this process), after one batch that is not
counted.
"""

import argparse
import json
import multiprocessing
import os
import time

import torch
from nnunetv2.run.run_training import get_trainer_from_args

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["steps", "loader"])
    parser.add_argument("dataset")
    parser.add_argument("configuration")
    parser.add_argument("count", type=int)
    given = parser.parse_args()
    if given.what == "loader":
        torch.set_num_threads(1)
    trainer = get_trainer_from_args(given.dataset, given.configuration, 0, device=torch.device("cpu"))
    trainer.on_train_start()
    if given.what == "steps":
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        for _ in range(given.count):
            trainer.train_step(next(trainer.dataloader_train))
        started = time.perf_counter()
        for _ in range(given.count):
            trainer.train_step(next(trainer.dataloader_train))
        rate = given.count / (time.perf_counter() - started)
    else:
        samples = len(next(trainer.dataloader_train)["data"])
        started = time.process_time()
        for _ in range(given.count):
            next(trainer.dataloader_train)
        rate = samples * given.count / (time.process_time() - started)
    print("\n" + json.dumps({"per_second": rate}), flush=True)
    for process in multiprocessing.active_children():  # its augmentation: it does not end by itself before an epoch
        process.kill()
    os._exit(0)
