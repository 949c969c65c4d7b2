"""What of the documents is made from the code: rooms and files, every command's help, clouds, methods. `make docs`."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
COMMANDS_PAGE = ROOT / "docs" / "commands.md"
TREE_PAGE = ROOT / "docs" / "tree.md"
ROOMS = {
    "catalogs": "GROUND. What the world sells, as typed data. Imports nothing of ours.",
    "remote": "GROUND. What runs on the box; shipped whole. Imports nothing of ours.",
    "planner": "MIDDLE. Pure arithmetic from a question to ranked plans.",
    "provision": "TOP. The only room that spends money.",
}
OTHER_FOLDERS = {
    "tests": "mirror the rooms; doubles are small real programs",
    "docs": "architecture, derivations, acceptance, schemas; advice, commands, clouds, methods and tree are made",
    "benchmarks": "scripts that measure: estimates, offers, renting, training, streaming; and their committed results",
    "examples": "job files that plan as they stand and run with `--data FILE`, and the demo",
    ".ci": "what CI runs, and the pinned requirement files",
}
WIDTH = 118


def room_folder(room: str) -> Path:
    """Where Python finds a room."""
    spec = find_spec(room)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(room)
    return Path(spec.origin).parent


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring; empty where the module has none."""
    paragraph = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
    return re.split(r"(?<=[.:?]) (?=[A-Z`])", " ".join(paragraph.split()))[0].rstrip(".:")


def tree_lines(folder: Path, *, files: bool, depth: int = 1) -> list[str]:
    """One line for each folder with code and, if `files`, for each file; folders first named, then opened."""
    lines = []
    for path in sorted(folder.iterdir(), key=lambda item: (item.is_dir(), item.name)):
        indent = "  " * depth
        if path.suffix == ".py" and path.name != "__init__.py":
            if not files:
                continue
            lines.append(f"{indent}{path.name:<{24 - len(indent)}}{first_sentence(path)}")
        elif path.is_dir() and any(path.glob("*.py")):
            summary = first_sentence(path / "__init__.py") if (path / "__init__.py").exists() else ""
            lines.append(f"{indent}{path.name + '/':<{24 - len(indent)}}{summary}".rstrip())
            lines.extend(tree_lines(path, files=files, depth=depth + 1))
        elif path.name == "data" and path.is_dir():
            lines.append(f"{indent}{'data/':<{24 - len(indent)}}the rows, each with source and date")
    return lines


def render_tree(*, files: bool) -> str:
    """The four rooms, one line for each room in them or for each file, and the folders around them."""
    lines: list[str] = []
    for room, purpose in ROOMS.items():
        lines += [f"{room + '/':<24}{purpose}", *tree_lines(room_folder(room), files=files)]
    lines += [f"{name + '/':<24}{purpose}" for name, purpose in OTHER_FOLDERS.items()]
    return "```text\n" + "\n".join(map(shortened, lines)) + "\n```"


def shortened(line: str) -> str:
    """`line` if it is short enough, else as many of its clauses as are; a long first clause is cut."""
    if len(line) <= WIDTH:
        return line
    clauses = list(re.finditer(r"[,;:](?= )| \(", line[:WIDTH]))
    return line[: clauses[-1].start()] if clauses else f"{line[: WIDTH - 1].rstrip()}…"


def with_tree(readme: str) -> str:
    """`readme` with the rooms of this moment between its markers."""
    replacement = f"<!-- tree -->\n{render_tree(files=False)}\n<!-- /tree -->"
    return re.sub(r"<!-- tree -->.*<!-- /tree -->", lambda _: replacement, readme, flags=re.DOTALL)


def render_tree_page() -> str:
    """Every file with the first sentence that it says of itself."""
    return f"# The tree\n\nMade from the code by `make docs`: a line for each file.\n\n{render_tree(files=True)}\n"


def render_commands() -> str:
    """Every command's help, as a terminal of 100 columns shows it."""
    from click.testing import CliRunner

    from provision.cli import COMMANDS, rentune

    sections = [
        "# Commands",
        "Made from the code by `make docs`. `plan` is `rentune plan`, `provision-and-run` is `rentune run`.",
    ]
    for words in ([], *([name] for name in COMMANDS)):
        helped = CliRunner().invoke(rentune, [*words, "--help"], prog_name="rentune", terminal_width=100)
        if helped.exception:
            raise helped.exception
        sections += [f"## {' '.join(['rentune', *words])}", f"```text\n{helped.output.strip()}\n```"]
    return "\n\n".join(sections) + "\n"


def main() -> None:
    """Write them all."""
    from tests import advice_page, answer_page, clouds_page, methods_page

    README.write_text(with_tree(README.read_text()))
    TREE_PAGE.write_text(render_tree_page())
    COMMANDS_PAGE.write_text(render_commands())
    advice_page.PAGE.write_text(advice_page.render_page())
    answer_page.PAGE.write_text(answer_page.render_page())
    clouds_page.PAGE.write_text(clouds_page.render_page())
    clouds_page.SECURITY_PAGE.write_text(clouds_page.with_switch(clouds_page.SECURITY_PAGE.read_text()))
    methods_page.PAGE.write_text(methods_page.render_page())


if __name__ == "__main__":
    main()
