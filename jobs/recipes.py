"""The recipes that ship with selfloop: python -m jobs.recipes [NAME]"""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from jobs.common import JsonOption, main, recipe_path, shipped_recipes
from jobs.showing import print_json, show
from pipeline.console import console
from pipeline.errors import ConfigError
from pipeline.places import RECIPES

FIELDS = ("takes", "needs")


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="print this recipe instead of the list", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the shipped recipes with what they do and how long they take, or print one of them."""
    if name is not None:
        path = Path(recipe_path(name))
        text = _text(path)
        if as_json:
            print_json(head(path) | {"text": text})
        else:
            print(text, end="")
        return
    heads = [head(path) for path in shipped_recipes().values()]
    if as_json:
        print_json(heads)
        return
    table = Table(show_edge=False, pad_edge=False)
    for title in ("recipe", "what it does", "takes"):
        table.add_column(title, no_wrap=title == "recipe")
    for h in heads:
        needs = f"; needs {h['needs']}" if h["needs"] else ""
        table.add_row(h["name"], h["summary"], f"{h['takes']}{needs}")
    console.print(table, soft_wrap=False)
    show("Those without a need run without a GPU or Java, and want about 6 GiB of free memory.")
    show("Start one: selfloop iterate NAME    read one: selfloop recipes NAME    your own: selfloop init")


def head(path: Path) -> dict[str, str]:
    """Return what a recipe's first comment lines declare: its summary, then `takes:` and `needs:`."""
    lines = _text(path).splitlines()
    inside = path.is_relative_to(RECIPES)
    name = path.relative_to(RECIPES).with_suffix("").as_posix() if inside else path.stem
    declared = {"name": name, "summary": lines[0].removeprefix("#").strip() if lines else ""}
    declared |= dict.fromkeys(FIELDS, "")
    for line in lines[1:]:
        key, _, value = line.removeprefix("#").strip().partition(":")
        if not line.startswith("#") or key not in FIELDS:
            break
        declared[key] = value.strip()
    return declared | {"path": str(path)}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {e}") from None


if __name__ == "__main__":
    main(recipes)
