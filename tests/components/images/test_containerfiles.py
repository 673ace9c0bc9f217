"""Every image that something names can be built from this repository, and installs what it is named for."""

import configparser
import re
from pathlib import Path

import pytest

from penstock.components import images
from penstock.components.images import ALL, VERSION
from penstock.manifests import load

ROOT = Path(__file__).parents[3]
FOLDER = Path(images.__file__).parent
BASE = "python:3.11-slim"


def instructions(name: str) -> list[str]:
    """The Containerfile's instructions, one line each, without comments."""
    lines = [line for line in (FOLDER / f"{name}.containerfile").read_text().splitlines() if not line.startswith("#")]
    return [line.strip() for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def arguments(name: str, instruction: str) -> list[str]:
    return [line.split(None, 1)[1] for line in instructions(name) if line.split(None, 1)[0] == instruction]


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_every_image_has_a_containerfile_and_the_other_way_round() -> None:
    assert {path.stem for path in FOLDER.glob("*.containerfile")} == set(ALL)
    assert {name: f"penstock-python-{name}:{VERSION}" for name in ALL} == ALL
    assert setup()["metadata"]["version"] == VERSION


@pytest.mark.parametrize("name", ALL)
def test_it_stands_on_an_image_of_ours_or_on_python_and_on_a_fixed_tag(name: str) -> None:
    [base] = arguments(name, "FROM")

    assert base in {BASE, *ALL.values()} - {ALL[name]}
    assert not re.search(r"latest|\w+\.\w+/|https?:|--index|trusted-host", "\n".join(instructions(name)))


def test_an_image_is_built_after_the_one_it_stands_on() -> None:
    order = re.search(r"for name in ([\w ]+);", (ROOT / "Makefile").read_text())
    assert order
    names = order[1].split()

    assert sorted(names) == sorted(ALL)
    for name in names:
        [base] = arguments(name, "FROM")
        assert base == BASE or base in [ALL[earlier] for earlier in names[: names.index(name)]]


@pytest.mark.parametrize("name", ALL)
def test_it_installs_the_extra_of_its_name_from_every_source_folder(name: str) -> None:
    extras = re.findall(r"'/src\[(\w+)\]'", " ".join(arguments(name, "RUN")))
    copied = {source for line in arguments(name, "COPY") for source in line.split()[:-1]}
    mapping = setup()["options"]["package_dir"].split("\n")[1:]

    assert extras == [name]
    assert extras[0] in setup()["options.extras_require"]
    assert {line.partition("=")[2].strip() for line in mapping} <= copied
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.parametrize("name", ALL)
def test_it_runs_as_a_user_who_is_not_root_and_keeps_no_cache(name: str) -> None:
    assert arguments(name, "USER")[-1] == "1000"
    assert all("--no-cache-dir" in line for line in arguments(name, "RUN") if "pip install" in line)


def test_labels_say_the_version() -> None:
    for name in ("light", "serve"):  # the others inherit it
        assert f'org.opencontainers.image.version="{VERSION}"' in arguments(name, "LABEL")[0]


def test_the_serving_runtime_runs_the_serve_image_as_its_entry_point_does() -> None:
    [container] = load("serving/servingruntime.yaml")["spec"]["containers"]

    assert container["image"] == images.SERVE
    assert arguments("serve", "ENTRYPOINT") == [str(container["command"]).replace("'", '"')]
