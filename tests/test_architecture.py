"""The rules of the design that keep the tree as it is, read from the source: nothing is imported."""

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("components", "inference", "manifests", "pipelines")
MOST_LINES = 300
BODY_LINES = 10

Imports = list[tuple[str, bool]]  # full module name, whether it is imported at module level


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    """components/data/split/step.py -> components/data/split/step.py, for the ids of parametrised tests."""
    return path.relative_to(ROOT).as_posix()


def imports_of(path: Path) -> Imports:
    tree = tree_of(path)
    top = set(map(id, tree.body))
    found: Imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", id(node) in top) for alias in node.names]
    return found


def imports_any(path: Path, *modules: str) -> list[str]:
    return [name for name, _ in imports_of(path)
            if any(name == module or name.startswith(f"{module}.") for module in modules)]


def steps() -> list[Path]:
    return sorted(path.parent for path in (ROOT / "components").rglob("component.py"))


ALL = sources(*PACKAGES)
EVERYTHING = [*ALL, *sources("tests")]


LAYERS = {"pipelines/": 4, "components/contracts/": 0, "components/images/": 0, "manifests/": 0,
          "components/control/": 1, "components/evidence/": 1, "components/reporting/": 1}


def layer(path: Path) -> int:
    """Return how high a file stands: contracts 0, control and evidence 1, steps 2, component.py 3, pipelines 4."""
    name = name_of(path)
    if path.name == "component.py":
        return 3
    return next((height for prefix, height in LAYERS.items() if name.startswith(prefix)), 2)


def module_file(name: str) -> Path | None:
    """Return the file that `penstock.…` comes from; the last part may be a name inside a module."""
    parts = name.split(".")[1:]
    for length in (len(parts), len(parts) - 1):
        base = ROOT.joinpath(*parts[:length])
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if length and candidate.is_file():
                return candidate
    return None


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    for name, _ in imports_of(path):
        if name.startswith("penstock.") and (target := module_file(name)) is not None:
            assert layer(target) <= layer(path), f"{name_of(path)} imports {name}, which stands above it"


@pytest.mark.parametrize("folder", steps(), ids=name_of)
def test_a_step_imports_no_other_step(folder: Path) -> None:
    for path in folder.rglob("*.py"):
        for name, _ in imports_of(path):
            target = module_file(name) if name.startswith("penstock.") else None
            if target is not None and target.parent in steps():
                assert target.parent == folder, f"{name_of(path)} imports the step {name}"


def test_inference_imports_contracts_only() -> None:
    for path in sources("inference"):
        ours = imports_any(path, "penstock")
        assert all(name.startswith(("penstock.components.contracts", "penstock.inference")) for name in ours), path


@pytest.mark.parametrize("path", [path for path in ALL if layer(path) < 3], ids=name_of)
def test_only_components_and_pipelines_import_kfp(path: Path) -> None:
    assert not imports_any(path, "kfp")


@pytest.mark.parametrize("folder", steps(), ids=name_of)
def test_a_component_is_a_thin_face(folder: Path) -> None:
    path = folder / "component.py"
    for name, top in imports_of(path):
        allowed = name.startswith(("kfp.", "typing.")) or name == "penstock.components.images"
        assert allowed or not top, f"{path} imports {name} at module level"
    functions = [node for node in tree_of(path).body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == [folder.name]
    assert ast.get_docstring(functions[0])
    body = functions[0].body[1:]
    assert (body[-1].end_lineno or 0) - body[0].lineno < BODY_LINES
    assert "from __future__" not in path.read_text(encoding="utf-8")
    assert {"step.py", "README.md"} <= {file.name for file in folder.iterdir()}


TORCH = ("components/training/worker/", "components/conversion/", "components/evaluation/")


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_torch_only_where_it_is_needed(path: Path) -> None:
    if not name_of(path).startswith(TORCH):
        assert not imports_any(path, "torch", "torchvision", "safetensors")


@pytest.mark.parametrize("path", [folder / "step.py" for folder in steps()], ids=name_of)
def test_a_step_imports_slow_libraries_where_it_uses_them(path: Path) -> None:
    slow = ("torch", "torchvision", "matplotlib", "onnx", "onnxscript", "kserve", "kubernetes")
    assert not [name for name, top in imports_of(path) if top and name.split(".")[0] in slow]


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_only_control_talks_to_kubernetes(path: Path) -> None:
    if not name_of(path).startswith("components/control/"):
        assert not imports_any(path, "kubernetes")


def test_yaml_only_where_it_belongs() -> None:
    allowed = ("manifests/", "pipelines/compiled/")
    found = [name_of(path) for folder in (*PACKAGES, "tests", "docs", "notebooks")
             for pattern in ("*.yaml", "*.yml") for path in (ROOT / folder).rglob(pattern)]
    assert found
    assert not [name for name in found if not name.startswith(allowed)]


IMAGE = re.compile(r"penstock-python-\w+|\bpenstock-[\w-]+:\d")


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_only_images_names_images(path: Path) -> None:
    if not name_of(path).startswith("components/images/"):
        strings = [node.value for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant)
                   and isinstance(node.value, str)]
        assert not [text for text in strings if IMAGE.search(text)]


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES, f"{name_of(path)} has {len(text.splitlines())} lines; split it by noun"
    assert path.stem not in ("utils", "helpers", "common")
    if text and path.name != "conftest.py":
        assert ast.get_docstring(tree_of(path)), f"{name_of(path)} needs a docstring: purpose, boundary"


def names_in_all(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def isort_key(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions, as ruff's RUF022 sorts."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("path", [path for path in ALL if path.read_text(encoding="utf-8")], ids=name_of)
def test_public_names_are_listed_sorted_and_there(path: Path) -> None:
    tree = tree_of(path)
    names = names_in_all(tree)
    if names is None:
        assert path.name in ("component.py", "__main__.py"), f"{name_of(path)} has no __all__"
        return
    assert names == sorted(set(names), key=isort_key)
    defined = {name.id for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign) for name in ast.walk(node)
               if isinstance(name, ast.Name)}
    defined |= {node.name for node in tree.body
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    defined |= {name.rsplit(".", 1)[1] for name, top in imports_of(path) if top and "." in name}
    assert set(names) <= defined


def handlers(tree: ast.Module) -> Iterator[ast.ExceptHandler]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler))


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_nothing_is_swallowed_or_printed(path: Path) -> None:
    tree = tree_of(path)
    for handler in handlers(tree):
        broad = handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException")
        again = any(isinstance(node, ast.Raise) for node in ast.walk(handler))
        assert not broad or again, f"{name_of(path)}:{handler.lineno} swallows every error"
    if not name_of(path).startswith("tests/benchmarks/"):  # those are there to print
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"]
        assert not calls, f"{name_of(path)}:{calls[0].lineno} prints"


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_no_configuration_field_is_optional(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ClassDef) and [ast.unparse(base) for base in node.bases] == ["Config"]:
            for field in node.body:
                if isinstance(field, ast.AnnAssign):
                    assert "None" not in ast.unparse(field.annotation), f"{node.name}.{ast.unparse(field.target)}"
                    assert field.value is None or "description=" in ast.unparse(field.value) or "ClassVar" in \
                        ast.unparse(field.annotation), f"{node.name}.{ast.unparse(field.target)} has no description"


def test_setup_cfg_lists_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = setup["options"]["packages"].split()
    there = [f"penstock.{name_of(path.parent).replace('/', '.')}" for path in ALL if path.name == "__init__.py"]
    assert listed == sorted(listed)
    assert sorted(listed) == sorted(there)
    mapping = dict(line.split(" = ") for line in setup["options"]["package_dir"].strip().splitlines())
    assert mapping == {f"penstock.{folder}": folder for folder in PACKAGES}
    assert {path.name: path.resolve() for path in (ROOT / ".typing/penstock").iterdir()} \
        == {folder: ROOT / folder for folder in PACKAGES}


def test_every_package_has_an_empty_init() -> None:
    packages = {path.parent for path in ALL}
    assert not [name_of(folder) for folder in packages if not (folder / "__init__.py").is_file()]
    filled = [name_of(path) for path in ALL if path.name == "__init__.py" and path.read_text(encoding="utf-8")]
    assert filled == ["components/evidence/__init__.py", "components/images/__init__.py", "manifests/__init__.py"]


def test_tests_mirror_the_tree() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
    folders = {path.parent.relative_to(ROOT / "tests").as_posix() for path in sources("tests")} - {"."}
    folders = {folder for folder in folders
               if folder.split("/")[0] not in ("notebooks", "cluster", "conformance", "benchmarks", "simulation")}
    # A folder of tests mirrors a folder, or one module with much to test.
    assert not [folder for folder in folders
                if not ((ROOT / folder).is_dir() or (ROOT / folder).with_suffix(".py").is_file())]


@pytest.mark.parametrize("path", sources("tests"), ids=name_of)
def test_tests_import_the_installed_package(path: Path) -> None:
    assert not imports_any(path, *PACKAGES)
