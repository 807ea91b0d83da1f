"""Trains a tiny network on one or two processes and writes down what came of it: `train_processes.py N BATCH OUT`."""

import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny import TinyNet, chips

from geoaug.models import ClassificationTask, Schedule, Stage, Training

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    processes, batch_size, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    training = Training(
        lr=0.05,
        optimizer="sgd",
        schedule=Schedule("constant", 0.0),
        stages=(Stage("head", 1), Stage("all", 2)),
        ema_decay=0.5,
    )
    task = ClassificationTask(TinyNet(dropout=0.0, norm=False), ["a", "b", "c"], training=training)
    data = chips()
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    start = {name: value.clone() for name, value in task.network.state_dict().items()}
    # Dealt out so that both processes' batches together are the doubled one.
    own = torch.utils.data.Subset(data, range(trainer.global_rank, len(data), processes))
    loader = torch.utils.data.DataLoader(own, batch_size)
    trainer.fit(task, loader, loader)
    if trainer.is_global_zero:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        torch.save({"start": start, "end": task.network.state_dict(), "metrics": metrics}, out)
