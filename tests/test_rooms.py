"""Which room may import which: one direction, no circles, whatever the place of the import."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
EVERYONE = {"bounds", "errors", "files", "text"}
"""What every room may import, beside itself and what is named here."""
MAY_IMPORT = {
    "patterns": set(),
    "data": set(),
    "processes": set(),
    "model": {"patterns"},
    "config": {"patterns", "model.config", "data.config"},
    "runs": {"config", "patterns", "model", "data"},
    "training": {"config", "patterns", "model", "data", "runs", "processes"},
    "launch": {"config", "patterns", "model.config", "data", "runs", "processes"},
    "items": {"config", "patterns", "runs", "launch"},
    "hf": {"model"},
    "analysis": {"items", "config", "patterns", "model", "data", "runs", "processes", "training"},
    "commands": {
        "items",
        "config",
        "patterns",
        "model",
        "data",
        "runs",
        "launch",
        "training.calibration",
        "training.loggers",
        "processes.environment",
        "analysis",
    },
}
FIGURES = {"analysis.figures"}


def modules() -> dict[str, ast.Module]:
    """Every module of the two packages, by its dotted name."""
    found = {}
    for path in [*ROOT.glob("sla_ablate/**/*.py"), *ROOT.glob("analysis/**/*.py")]:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text())
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """The modules of ours that a module imports, anywhere in it: at the top, in functions, for type checkers."""
    found = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{name} has a relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (submodules & MODULES.keys()) or {node.module}
    return found & MODULES.keys()


def room(name: str) -> str:
    """The room of a module, or its own name at the top of `sla_ablate`."""
    parts = name.split(".")
    return parts[0] if parts[0] != "sla_ablate" else parts[1] if len(parts) > 1 else "sla_ablate"


def inside(name: str, allowed: set[str]) -> bool:
    """Whether a module is, or lies in, one of the rooms or modules `allowed`."""
    own = name.removeprefix("sla_ablate.")
    return any(own == each or own.startswith(f"{each}.") for each in allowed)


def test_every_import_goes_down():
    offending = []
    for name in MODULES:
        mine = room(name)
        if mine in EVERYONE or mine in ("sla_ablate", "__main__"):  # the last two are the public names and the command
            continue
        allowed = MAY_IMPORT[mine] | EVERYONE | {mine, "sla_ablate"}
        offending += [f"{name} imports {other}" for other in imports(name) if not inside(other, allowed)]
    assert not offending


def test_tables_do_not_depend_on_figures():
    free = [name for name in MODULES if room(name) == "analysis" and not inside(name, FIGURES)]
    drawing = {name for name in free if any(inside(other, FIGURES) for other in imports(name))}
    assert drawing == {  # which put both together
        *("analysis.report", "analysis.sweep", "analysis.items.report", "analysis.items.page")
    }


def test_there_is_no_circle():
    """With the public names resolved where they are used: `sla_ablate/__init__.py` imports what it offers lazily."""
    graph = {
        name: imports(name) - {"sla_ablate", "analysis"} for name in MODULES if name not in ("sla_ablate", "analysis")
    }
    TopologicalSorter(graph).prepare()  # raises a CycleError that names it


def test_only_what_everyone_needs_is_at_the_top():
    top = {path.stem for path in (ROOT / "sla_ablate").glob("*.py")}
    assert top == {"__init__", "__main__", "hf"} | EVERYONE - {"text"}


def test_who_knows_hydra_and_lightning():
    """The inside of Hydra is one module's, and Lightning is training's alone."""
    hydra, inside_hydra, lightning, inside_lightning = set(), set(), set(), set()
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for imported in names:
                hydra |= {room(name)} if imported.split(".")[0] == "hydra" else set()
                inside_hydra |= {name} if imported.startswith("hydra._internal") else set()
                lightning |= {room(name)} if imported.split(".")[0] == "lightning" else set()
                inside_lightning |= (
                    {name} if imported.startswith(("lightning.fabric", "lightning_utilities")) else set()
                )
    assert hydra == {"config", "launch"}
    assert inside_hydra == {"sla_ablate.config.hydra_internals"}
    assert lightning == {"training"}
    assert inside_lightning == {"sla_ablate.training.strategies"}
