"""Options: what `--set` makes of them, and how a mistake is answered before anything starts."""

from pathlib import Path

import pytest

from penstock.components.contracts.errors import ConfigError
from penstock.pipelines.profiles import PROFILES, profile_arguments
from penstock.pipelines.run_folder import RunFolder
from penstock.pipelines.stages import Arguments, anchored, check, override, pipeline_name, stage_configs

BASE = Arguments({"service": "shapes"}, {"train": {"epochs": 2}, "ingest": {"source": "fashion-mnist"}})


@pytest.mark.parametrize(("setting", "scalars", "stages"), [
    ("train.epochs=3", {}, {"train": {"epochs": 3}}),
    ("train.network=mlp", {}, {"train": {"epochs": 2, "network": "mlp"}}),
    ("train={\"epochs\": 4, \"seed\": 1}", {}, {"train": {"epochs": 4, "seed": 1}}),
    ("ingest.source=a=b", {}, {"ingest": {"source": "a=b"}}),
    ("service=photos", {"service": "photos"}, {}),
    ("service=12", {"service": "12"}, {}),
])
def test_settings_are_json_or_else_text(
    setting: str, scalars: dict[str, str], stages: dict[str, dict[str, object]]
) -> None:
    assert override(BASE, [setting]) == Arguments(BASE.scalars | scalars, BASE.stages | stages)
    assert BASE.stages["train"] == {"epochs": 2}


@pytest.mark.parametrize(("setting", "text"), [
    ("train.epochs", "a value is missing; try --set train.epochs=3"),
    ("trian.epochs=3", "unknown 'trian', did you mean 'train'?"),
    ("xyz=3", "unknown 'xyz', there are service, train, ingest"),
    ("train=3", "a stage takes keys; try --set train.KEY=VALUE"),
    ("service.name=3", "unknown 'service'"),
])
def test_a_setting_that_cannot_be_is_refused(setting: str, text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        override(BASE, [setting])
    assert text in str(refused.value)


def test_every_wrong_stage_is_named_with_the_nearest_field() -> None:
    with pytest.raises(ConfigError) as refused:
        check(Arguments({"service": "shapes"}, {"train": {"epoch": 3}, "split": {"validation": 2}}))
    lines = str(refused.value).splitlines()
    assert lines[0].startswith("split: SplitConfig: validation=2")
    assert lines[1] == "train: TrainConfig: unknown field 'epoch', did you mean 'epochs'?"


def test_a_sweep_that_no_trial_could_start_is_refused_before_anything_starts() -> None:
    space = {"batch_size": {"type": "int", "min": 1, "max": 8}}
    with pytest.raises(ConfigError, match=r"^sweep: .*impossible search space.*batch_size"):
        check(Arguments({"service": "shapes"}, {"sweep": {"max_trials": 2, "parameters": space}}))


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_are_valid_and_say_where_training_works(name: str, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    arguments = profile_arguments(name, RunFolder(tmp_path / "run"))

    check(arguments)
    assert list(arguments.stages) == list(stage_configs())
    assert arguments.stages["train"]["work"] == str(tmp_path / "run" / "train")
    assert arguments.stages["sweep"]["work"] == str(tmp_path / "run" / "sweep")
    assert arguments.scalars["registry"] == str(tmp_path / "home" / "registry")


def test_a_service_needs_a_name_that_kubernetes_takes() -> None:
    with pytest.raises(ConfigError, match="service='My photos'"):
        check(Arguments({"service": "My photos"}, {}))


def test_a_canary_that_could_never_prove_itself_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match="requests=200 are too few to show at 5 %"):
        check(Arguments({"service": "shapes"},
                        {"roll_out": {"canary_percent": 5}, "analyse_canary": {"requests": 200}}))
    with pytest.raises(ConfigError, match=r"ladder=\[20, 50\] begins at or below roll_out.canary_percent=20"):
        check(Arguments({"service": "shapes"},
                        {"roll_out": {"canary_percent": 20}, "analyse_canary": {"ladder": [20, 50]}}))


def test_paths_outlive_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)

    found = anchored(Arguments({"registry": "models"}, {"ingest": {"source": "./photos", "limit": 3}}))

    assert found.scalars["registry"] == str(tmp_path / "models")
    assert found.stages["ingest"] == {"source": str(tmp_path / "photos"), "limit": 3}
    assert anchored(Arguments({"registry": "/m"}, {"ingest": {"source": "fashion-mnist"}})).stages["ingest"] == {
        "source": "fashion-mnist"}


def test_an_unknown_profile_or_pipeline_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no profile 'lineal'; did you mean 'linear'"):
        profile_arguments("lineal", RunFolder(tmp_path))
    with pytest.raises(ConfigError, match="no pipeline 'train'; there is train_and_deploy"):
        pipeline_name("train")
    assert pipeline_name("train-and-deploy") == "train_and_deploy"
