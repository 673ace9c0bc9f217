"""Event files, read back as TensorBoard reads them: each step once, also after a restart."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from penstock.components.contracts.dataset import Dataset
from penstock.components.training.worker import checkpoint
from penstock.components.training.worker.config import WorkerConfig, WorkFolder
from penstock.components.training.worker.events import Events
from penstock.components.training.worker.loop import Trainer
from penstock.components.training.worker.ranks import Ranks

OPTIONS = {"network": "linear", "epochs": 3, "batch_size": 32, "learning_rate": 0.1}


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return found.Reload()


def trainer(dataset: Dataset, folder: Path, rank: int = 0, **options: object) -> Trainer:
    return Trainer(WorkerConfig.parse(OPTIONS | options), dataset, WorkFolder(folder), Ranks(rank=rank, world=1))


def test_what_a_training_writes(sides: Dataset, tmp_path: Path) -> None:
    run = trainer(sides, tmp_path)
    run.run()

    found = read(tmp_path / "tensorboard")
    assert sorted(found.Tags()["scalars"]) == ["accuracy/validation", "loss/train", "loss/validation",
                                               "training/images_per_second", "training/learning_rate"]
    for tag, name in (("accuracy/validation", "validation_accuracy"), ("training/learning_rate", "learning_rate")):
        assert [event.step for event in found.Scalars(tag)] == [1, 2, 3]
        assert [event.value for event in found.Scalars(tag)] == pytest.approx([entry[name] for entry in run.history])
    assert [event.step for event in found.Images("samples/augmented")] == [1, 2, 3]
    assert sorted(found.Tags()["tensors"]) == [f"validation/{name}" for name in sides.description.classes]


def test_pictures_are_the_pixels_enlarged(tmp_path: Path) -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 8, 16, 3), np.uint8))
    events = Events(tmp_path, done=0)
    for epoch in (1, 11):  # the eleventh would push another one out
        events.pictures(epoch, images)
    events.close()

    [event] = read(tmp_path).Images("samples/augmented")
    picture = tmp_path / "grid.png"
    picture.write_bytes(event.encoded_image_string)
    grid = np.asarray(Image.open(picture))

    assert grid.shape == (2 * 32, 8 * 64, 3)  # two rows of up to eight, each enlarged fourfold
    np.testing.assert_array_equal(grid[:32:4, :64:4], images[0])
    np.testing.assert_array_equal(grid[32::4, :64:4], images[8])


def test_a_pr_curve_of_each_class(tmp_path: Path) -> None:
    logits, labels = torch.tensor([[4.0, 0.0], [3.0, 0.0], [0.0, 3.0], [2.0, 0.0]]), torch.tensor([0, 0, 1, 1])
    events = Events(tmp_path, done=4)
    events.precision_recall(5, ("cat", "dog"), logits, labels)
    events.close()

    [event] = read(tmp_path).Tensors("validation/dog")
    true, false, _, _, precision, recall = np.array(event.tensor_proto.float_val).reshape(6, -1)

    assert event.step == 5
    assert (true[0], false[0]) == (2, 2)  # at threshold 0 all are called dogs
    assert (precision[64], recall[64]) == (1, 0.5)  # at one half, one of the two, and nothing else


def test_a_resumed_training_repeats_no_step(
        sides: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoint.save

    def cut_off(folder: Path, epoch: int, state: dict[str, object]) -> Path:
        if epoch == 2:  # after its events, before its checkpoint
            raise KeyboardInterrupt
        return save(folder, epoch, state)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", cut_off)
        with pytest.raises(KeyboardInterrupt):
            trainer(sides, tmp_path).run()
    [first] = (tmp_path / "tensorboard").iterdir()
    first.rename(first.with_name("events.out.tfevents.1700000000.earlier"))  # read in the order of these seconds
    trainer(sides, tmp_path).run()

    found = read(tmp_path / "tensorboard")
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    for tag in found.Tags()["scalars"]:
        assert [event.step for event in found.Scalars(tag)] == [1, 2, 3]
    assert [event.step for event in found.Images("samples/augmented")] == [1, 2, 3]
    assert [event.step for event in found.Tensors("validation/left")] == [3]


def test_it_can_be_turned_off_and_changes_no_weight(sides: Dataset, tmp_path: Path) -> None:
    for name, wanted in (("with", True), ("without", False)):
        trainer(sides, tmp_path / name, tensorboard=wanted).run()

    assert not (tmp_path / "without" / "tensorboard").exists()
    weights = [(tmp_path / name / "model" / "weights.safetensors").read_bytes() for name in ("with", "without")]
    assert weights[0] == weights[1]


def test_only_the_first_rank_writes(sides: Dataset, tmp_path: Path) -> None:
    trainer(sides, tmp_path, rank=1).run()

    assert not tmp_path.joinpath("tensorboard").exists()
