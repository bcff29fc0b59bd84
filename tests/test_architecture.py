"""The stairs of the house: who may import whom, and who may name which library."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hublock"
FLOORS = {
    "errors": 0,
    "settings": 1,
    "core": 1,
    "store": 2,
    "report": 2,
    "net": 3,
    "runtime": 3,
    "actions": 4,
    "hub": 5,
    "repos": 5,
    "cli": 5,
    "startup": 6,
    "__main__": 6,
}
STRANGERS = {("net", "runtime"), ("runtime", "net"), ("hub", "cli"), ("cli", "hub"), ("repos", "cli"), ("cli", "repos")}
"""Neighbours that do not know each other: foreign code never holds our transport, and no face needs another."""
LIBRARIES = {
    "torch": {"runtime"},
    "numpy": {"runtime"},
    "huggingface_hub": {"runtime"},
    "requests": {"net", "runtime"},
    "urllib3": {"net", "runtime"},
    "dulwich": {"net"},
    "tomlkit": {"core"},
    "packaging": {"core", "runtime"},
    "tqdm": {"cli"},
    "platformdirs": {"settings", "cli"},
}
"""Which rooms may name which library; any other library may not be named at all."""
LONGEST = 400
"""Lines of a file before it should be two."""


def modules() -> Iterator[tuple[str, ast.Module, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        yield name, ast.parse(text), text


def room(module: str) -> str:
    return ([*module.split("."), ""])[1]


def imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield every module named by an import, lazy ones too, and whether it is only for types."""
    typing = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import of {node.module}"
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in submodules if name in KNOWN]
            yield from ((name, id(node) in typing) for name in (known or [node.module or ""]))


KNOWN = {name for name, _, _ in modules()}
EDGES = {
    (name, target)
    for name, tree, _ in modules()
    for target, typing in imports(tree)
    if target.split(".")[0] == "hublock" and not typing
}


def test_every_import_goes_down_the_stairs() -> None:
    wrong = [
        f"{name} (floor {FLOORS[room(name)]}) imports {target}"
        for name, target in sorted(EDGES)
        if name != "hublock" and room(name) != room(target)
        if target == "hublock" or FLOORS[room(target)] >= FLOORS[room(name)]
        if (name, target) != ("hublock.cli.main", "hublock")
    ]

    assert wrong == []


def test_strangers_do_not_import_each_other() -> None:
    assert [edge for edge in sorted(EDGES) if (room(edge[0]), room(edge[1])) in STRANGERS] == []


def test_no_circle_of_imports_even_counting_lazy_ones() -> None:
    rest = {edge for edge in EDGES if edge[0] != edge[1]}
    while True:
        leaves = {target for _, target in rest} - {name for name, _ in rest}
        fewer = {edge for edge in rest if edge[1] not in leaves}
        if fewer == rest:
            break
        rest = fewer

    heads = {name for name, _ in rest}
    assert not [edge for edge in rest if edge[1] in heads and reaches(edge[1], edge[0], rest)]


def reaches(start: str, goal: str, edges: set[tuple[str, str]]) -> bool:
    seen, todo = set(), [start]
    while todo:
        here = todo.pop()
        if here == goal:
            return True
        if here not in seen:
            seen.add(here)
            todo += [target for name, target in edges if name == here]
    return False


def test_each_library_is_named_only_in_its_rooms() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, tree, _ in modules()
        for target, _typing in imports(tree)
        if (library := target.split(".")[0]) not in sys.stdlib_module_names and library != "hublock"
        if room(name) not in LIBRARIES.get(library, set())
    ]

    assert wrong == []


def test_only_the_console_prints() -> None:
    prints = {
        name
        for name, tree, _ in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }

    assert prints == {"hublock.cli.console"}


def test_only_faces_read_the_environment() -> None:
    readers = {
        name
        for name, tree, _ in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }

    # runtime keeps and empties the environment of foreign code, net.child hands it on to the user's git and ssh:
    # neither takes a setting from it
    faces = {
        "hublock.hub",
        "hublock.repos",
        "hublock.cli.main",
        "hublock.startup.sitecustomize",
        "hublock.startup.waiting",
        "hublock.startup.recording",
    }
    assert {name for name in readers if room(name) != "runtime"} <= {*faces, "hublock.net.git.child"}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, _, text in modules()])
def test_every_room_says_what_it_is_for_and_stays_small(name: str, text: str) -> None:
    assert ast.get_docstring(ast.parse(text)), f"{name} has no first line"
    assert text.count("\n") <= LONGEST, f"{name} is longer than {LONGEST} lines"


HEAVY = ("torch", "requests", "dulwich", "tomlkit", "tqdm", "packaging", "numpy")


@pytest.mark.parametrize(
    "line",
    ["import hublock", "import hublock.hub", "import hublock.cli.main; hublock.cli.main.build_parser()"],
)
def test_importing_is_light(line: str) -> None:
    script = f"import sys\n{line}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
