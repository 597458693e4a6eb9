"""The cards of what is pushed: README.md of the dataset repository, and of each model."""

import json
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from pipeline import overview
from pipeline.display import round_title
from pipeline.markdown import Markup, cell, code, shortened, table
from pipeline.publish.kinds import KINDS, SFT, Kind
from pipeline.redact import redacted
from pipeline.rundir import RoundKey, RunDir
from pipeline.store import files
from stages.judges.combined import described
from stages.reports.table import Figures, interval, measured, readable, round_figures

SAMPLES = 3
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
MADE_WITH = "selfloop: a model generates data, checks it, trains on it, and repeats"


def dataset_card(run: RunDir, repo: str, licence: str | None, published: list[dict[str, Any]]) -> str:
    """Return the card of a run's datasets.

    `published` has those of overview.published, each with its `round`, `manifest` and a `sample` of rows.
    """
    recipe = overview.recipe_of(run)
    kinds = list(dict.fromkeys(d["kind"] for d in published))
    total = sum(d["rows"] for d in published)
    matter = {
        **({"license": licence} if licence else {}),
        "pretty_name": recipe["name"],
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "selfloop", recipe["method"]["name"], *kinds],
        "size_categories": [next((name for limit, name in SIZES if total < limit), "n>1M")],
        "configs": _configs(kinds, published),
    }
    parts = [
        f"---\n{yaml.safe_dump(matter, sort_keys=False)}---\n",
        f"# {cell(recipe['name'])}\n",
        f"{total:,} rows of {len({d['round'] for d in published})} rounds, made with {MADE_WITH}. Method: "
        f"{cell(recipe['method']['name'])}. Model that learns: {_model_link(recipe)}. Verifier: "
        f"{cell(described(run.recipe().verifier))}.\n",
        "## Load\n",
        code(_loading(repo, kinds, published), "python"),
        "## Rounds\n",
        _rounds(published),
        *_evaluations(run),
        "## Sample rows\n",
        *(_sample([d for d in published if d["kind"] == kind][-1]) for kind in kinds),
        "## Columns\n",
        *(_columns(KINDS.get(kind.partition("-")[0], SFT), kind) for kind in kinds),
        *_provenance(run, recipe, licence),
    ]
    return "\n".join(parts)


def model_card(
    run: RunDir, round_: int, folder: str, repo: str, dataset: str | None, licence: str | None
) -> str:
    """Return the card of a round's model, which is in `folder`. `dataset`: the repository of its data."""
    recipe = overview.recipe_of(run)
    base, revision = recipe["model"]["base"], f"round-{round_:03d}"
    adapter = files.exists(files.join(folder, "adapter_config.json"))
    data = ModelCardData(
        license=licence,
        base_model=base if _is_hub_id(base) else None,
        datasets=[dataset] if dataset else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["selfloop", recipe["method"]["name"]],
        model_name=f"{recipe['name']} {round_title(round_)}",
        eval_results=_results(run, round_, recipe) or None,
    )
    path = files.join(run.stage(round_, "train"), "train.json")
    result = files.read_json(path) if files.exists(path) else {}
    shares = result.get("shares") or {}
    trained = {
        key: result.get(key) for key in ("steps", "examples", "left_out", "tokens", "seconds", "final_loss")
    }
    settings = {k: v for k, v in (result.get("hyperparameters") or {}).items() if k != "output_dir"}
    parts = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {cell(recipe['name'])}, {round_title(round_)}\n",
        f"{_model_link(recipe)}, trained in {round_title(round_)} on {shares.get('real', 0):,} real and "
        f"{shares.get('synthetic', 0):,} synthetic rows, made with {MADE_WITH}.\n",
        "## Load\n",
        code((_ADAPTER if adapter else _MODEL).format(repo=repo, revision=revision, base=base), "python"),
        *_evaluations(run),
        "## Training\n",
        table(["", "value"], [(name, value) for name, value in trained.items() if value is not None]),
        code(yaml.safe_dump({**settings, "versions": result.get("versions")}, sort_keys=False), "yaml"),
        *_provenance(run, recipe, licence),
    ]
    return "\n".join(parts)


def shown_recipe(recipe: dict[str, Any]) -> str:
    """Return the recipe as YAML, without secrets, local folders and what changes no result."""
    shown = {name: section for name, section in recipe.items() if name not in ("runner", "track")}
    return yaml.safe_dump(
        redacted(shown, folders=False, longest=None), sort_keys=False, allow_unicode=True, width=110
    )


def _configs(kinds: list[str], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def config(name: str, path: str, **more: Any) -> dict[str, Any]:
        return {"config_name": name, **more, "data_files": [{"split": "train", "path": path}]}

    configs = []
    for kind in kinds:
        first = {"default": True} if kind == kinds[0] else {}
        configs.append(config(kind, f"data/{kind}/*/*.parquet", **first))
        rounds = (d["round"] for d in published if d["kind"] == kind)
        configs += [config(f"{kind}-round-{r:03d}", f"data/{kind}/round-{r:03d}/*.parquet") for r in rounds]
    return configs


def _loading(repo: str, kinds: list[str], published: list[dict[str, Any]]) -> str:
    def line(config: str, comment: str) -> str:
        return f'rows = load_dataset("{repo}", {config}split="train")  # {comment}'

    lines = ["from datasets import load_dataset\n", line("", "all rounds")]
    lines.append(line(f'"{_config_name(published[-1])}", ', "one round"))
    lines += [line(f'"{kind}", ', KINDS.get(kind, SFT).unit) for kind in kinds[1:]]
    return "\n".join(lines)


def _config_name(dataset: dict[str, Any]) -> str:
    return f"{dataset['kind']}-round-{dataset['round']:03d}"


def _rounds(published: list[dict[str, Any]]) -> str:
    rows = []
    for d in published:
        name, whole = _config_name(d), d["manifest"].get("tokens", {}).get("whole", {})
        counts = (f"{d[key]:,}" for key in ("rows", "real", "synthetic"))
        lengths = (f"{whole.get(mark, 0):,}" for mark in ("p50", "max"))
        rows.append((Markup(f"[{name}](cards/{name}.md)"), *counts, *lengths, str(d["digest"])[:12]))
    header = ["config (link: its counts and drop reasons)", "rows", "real", "synthetic"]
    return table([*header, "median tokens", "most tokens", "digest"], rows)


def _evaluations(run: RunDir) -> list[str]:
    figures = [f for r in run.rounds() if (f := round_figures(run, r))]
    if not figures:
        return []
    number, rows = measured(run), []
    first = "the base model" if any("against_base" in f for f in figures) else "round 0"
    for f in figures:
        against = f.get("against_round_0") or f.get("against_base")
        gain = Markup(interval(against["difference"], signed=True) if against else "")
        cells = [round_title(f["round"]), Markup(interval(f["greedy"])), f["n"], gain]
        rows.append([*cells, readable(f)] if number == "accuracy" else cells)
    header = ["model", f"greedy {number} [95% interval]", "questions", f"against {first}"]
    header += ["readable answers"] if number == "accuracy" else []
    return [
        "## Evaluation\n",
        "On held-out questions; published rows that match one exactly or in an n-gram are left out.\n",
        table(header, rows),
    ]


def _results(run: RunDir, round_: RoundKey, recipe: dict[str, Any]) -> list[EvalResult]:
    figures: Figures | None = round_figures(run, round_)
    if figures is None:
        return []
    number, source = measured(run), recipe["tasks"]
    sets = {"held out": figures, **(figures.get("sets") or {})}
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=str(source.get("dataset") or source["source"]),
            dataset_name=f"{recipe['name']}, {name}",
            dataset_config=name,  # results of one config would be merged
            metric_type=number,
            metric_name=f"greedy {number}, {f['n']} questions, 95% interval {interval(f['greedy'])}",
            metric_value=round(100 * f["greedy"]["mean"], 2),
        )
        for name, f in sets.items()
    ]


def _sample(published: dict[str, Any]) -> str:
    """Show what a model learns from in some rows, with their verdicts; token ids are of no interest here."""
    kind = KINDS.get(published["kind"].partition("-")[0], SFT)
    names = [name for name in kind.content if name not in kind.ids]
    names += [name for name in published["sample"][0] if name.endswith("verdict")]
    rows = [_shortened({name: row[name] for name in names if row.get(name)}) for row in published["sample"]]
    text = "\n\n".join(json.dumps(row, ensure_ascii=False, indent=2) for row in rows)
    return f"{_config_name(published)}:\n\n{code(text, 'json')}"


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return shortened(value)
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    return [_shortened(inner) for inner in value[:20]] if isinstance(value, list) else value


def _columns(kind: Kind, name: str) -> str:
    read = ", ".join(f"`{column}`" for column in kind.trained_on)
    return (
        f"`{name}`: {kind.form}. A trainer reads {read}. All other columns are lineage: `row_id` and "
        "`parent_ids` identify the row in the run, `task_id` its task, `src_*` the model that wrote it, its "
        "sampling and its verdict; `tokens_*` are lengths.\n"
    )


def _provenance(run: RunDir, recipe: dict[str, Any], licence: str | None) -> list[str]:
    tasks = recipe["tasks"]
    source = tasks.get("path") or tasks.get("dataset") or ""
    name = str(source) if not str(source).startswith(("/", "~")) else str(source).rsplit("/", 1)[-1]
    stated = f"{cell(licence)}." if licence else "not stated."
    origin = overview.recipe_of(run)["engine"]
    writer = f", written by {cell(origin['model'])} at an endpoint" if "model" in origin else ""
    return [
        "## Licence and lineage\n",
        f"Licence: {stated} The terms of the model ({_model_link(recipe)}{writer}) and of the tasks "
        f"({cell(tasks['source'])} {cell(name)}) apply as well.\n",
        "<details><summary>The recipe, without secrets and local folders</summary>\n",
        code(shown_recipe(recipe), "yaml"),
        "</details>\n",
    ]


def _model_link(recipe: dict[str, Any]) -> str:
    base = str(recipe["model"]["base"])
    if _is_hub_id(base):
        return f"[{cell(base)}](https://huggingface.co/{base})"
    return cell(base.rstrip("/").rsplit("/", 1)[-1])


def _is_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1


_MODEL = """from transformers import pipeline

chat = pipeline("text-generation", "{repo}", revision="{revision}")
chat([{{"role": "user", "content": "..."}}])

# or: vllm serve {repo} --revision {revision}"""
_ADAPTER = """from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("{repo}", revision="{revision}")
# an adapter of {base}"""
