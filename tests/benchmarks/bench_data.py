"""Figures of the data path: raw files to a dataset folder, and rows to augmented batches."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from interleaved import compare
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import v2

from penstock.components.data.ingest.config import IngestConfig
from penstock.components.data.ingest.fashion_mnist import IMAGES, SYSTEM_FOLDER
from penstock.components.data.ingest.step import run
from penstock.components.training.worker.augment import Split, plan_epoch

ROWS = 20_000
BATCH = 512


@pytest.mark.skipif(not SYSTEM_FOLDER.is_dir(), reason="needs Fashion-MNIST's files in the system folder")
def test_raw_files_to_dataset_folder(tmp_path: Path) -> None:
    def gunzip() -> int:
        rows = 0
        for file in IMAGES.values():
            with gzip.open(SYSTEM_FOLDER / file.name) as packed:
                rows += (len(np.frombuffer(packed.read(), np.uint8)) - 16) // 784
        return rows

    def ingest() -> int:
        rows = run(tmp_path / "dataset", IngestConfig()).rows
        shutil.rmtree(tmp_path / "dataset")
        return rows

    report("raw files to dataset folder", "images", {"gunzip and numpy only (the floor)": gunzip, "ingest": ingest})


def test_rows_to_augmented_batches() -> None:
    images = torch.randint(0, 256, (ROWS, 28, 28, 1), dtype=torch.uint8)
    labels = torch.randint(0, 10, (ROWS,))

    class OneByOne(TorchDataset[tuple[torch.Tensor, torch.Tensor]]):
        augment = v2.Compose([v2.RandomCrop(28, padding=2), v2.RandomHorizontalFlip()])

        def __len__(self) -> int:
            return ROWS // 4

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            return self.augment(images[index].permute(2, 0, 1)), labels[index]

    def loader() -> int:
        return sum(len(batch) for batch, _ in DataLoader(OneByOne(), BATCH, shuffle=True))

    split = Split(images, labels, padding=2)

    def gather() -> int:
        plan = plan_epoch(ROWS, seed=0, epoch=0, padding=2, flip=0.5)
        return sum(len(split.batch(rows, plan)[0]) for rows in plan.order.split(BATCH))

    report("rows to augmented batches", "images", {"torchvision transforms, DataLoader": loader, "one gather": gather})


def report(title: str, unit: str, ways: dict) -> None:
    print(compare(title, unit, ways))  # noqa: T201 - a table is what a benchmark is for
