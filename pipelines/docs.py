"""Write the README.md of every step folder, and docs/laptop.md, from docstrings, signatures and tables in the code.

    python -m penstock.pipelines.docs

Reads the source as text; a test holds the files equal to what this makes.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from docstring_parser import parse

from penstock import components
from penstock.components.contracts.config import Config
from penstock.components.control.laptop.fields import KINDS, honoured_fields
from penstock.pipelines.stages import stage_configs

__all__ = ["LAPTOP_PAGE", "laptop_page", "main", "readme", "step_folders"]

COMPONENTS = Path(components.__path__[0])
LAPTOP_PAGE = COMPONENTS.parent / "docs" / "laptop.md"
LAPTOP_INTRODUCTION = """# What the laptop honours

Steps hand Kubernetes objects to a control plane. The laptop's runs the kinds below on this machine, and honours the
fields listed; an object that uses any other is refused before anything starts, with every such field named. Status,
conditions and reasons are those of the real controllers.

State, logs and the gateway's files are under `$PENSTOCK_HOME` (default `~/.local/state/penstock`). The gateway listens
on 127.0.0.1, port `$PENSTOCK_GATEWAY_PORT` (default 8480). `penstock laptop status` shows what serves."""


def step_folders() -> Iterator[Path]:
    """Yield the folder of every step, sorted by path."""
    for component in sorted(COMPONENTS.rglob("component.py")):
        yield component.parent


def readme(folder: Path) -> str:
    """Return what the README.md of a step folder must hold."""
    component = ast.parse((folder / "component.py").read_text(encoding="utf-8"))
    step = ast.parse((folder / "step.py").read_text(encoding="utf-8"))
    function = next(node for node in component.body if isinstance(node, ast.FunctionDef) and node.name == folder.name)
    told, boundary = parse(ast.get_docstring(function) or ""), parse(ast.get_docstring(step) or "").long_description
    texts = [text for text in (told.short_description, told.long_description, boundary) if text]
    parts = [f"# {folder.name}", *texts, _signature(function)]
    if config := stage_configs().get(folder.name):
        parts.append(_configuration(config))
    parts.append("Made from the docstrings by `python -m penstock.pipelines.docs`.")
    return "\n\n".join(parts) + "\n"


def laptop_page() -> str:
    """Return what docs/laptop.md must hold."""
    parts = [LAPTOP_INTRODUCTION]
    for kind, fields in honoured_fields().items():
        rows = [(f"`{path}`", text) for path, text in fields.items()]
        parts.append(f"## {kind} (`{KINDS[kind].api_version}`)\n\n{_table(('field', 'what becomes of it'), rows)}")
    parts.append("Made from `components/control/laptop/fields.py` by `python -m penstock.pipelines.docs`.")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write every README.md and docs/laptop.md."""
    for folder in step_folders():
        (folder / "README.md").write_text(readme(folder), encoding="utf-8")
    LAPTOP_PAGE.write_text(laptop_page(), encoding="utf-8")


def _signature(function: ast.FunctionDef) -> str:
    told = {entry.arg_name: entry.description or "" for entry in parse(ast.get_docstring(function) or "").params}
    rows = [(f"`{argument.arg}`", f"`{ast.unparse(argument.annotation)}`" if argument.annotation else "",
             " ".join(told.get(argument.arg, "").split())) for argument in function.args.args]
    if function.returns and ast.unparse(function.returns) != "None":
        returns = parse(ast.get_docstring(function) or "").returns
        rows.append(("returns", f"`{ast.unparse(function.returns)}`",
                     " ".join((returns.description or "").split()) if returns else ""))
    return f"## In and out\n\n{_table(('name', 'type', 'meaning'), rows)}"


def _configuration(config: type[Config]) -> str:
    rows = [(f"`{name}`", f"`{field.default!r}`", field.description or "")
            for name, field in config.model_fields.items()]
    return f"## Options\n\n{_table(('field', 'default', 'meaning'), rows)}"


def _table(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [headers, ("---",) * len(headers), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
