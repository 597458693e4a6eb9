"""A run's datasets and models to the Hub: python -m jobs.push RUN --to OWNER/NAME [--models]"""

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.common import check_run, main, say
from pipeline import overview
from pipeline.errors import ConfigError, SelfloopError
from pipeline.rundir import RunDir
from pipeline.store.files import atomic_folder
from stages.sharing.staging import stage_dataset, stage_models

TOKEN = "HF_TOKEN"


def push(
    run: Annotated[str, typer.Argument(metavar="RUN", help="run directory")],
    to: Annotated[str, typer.Option("--to", metavar="OWNER/NAME", help="repository", show_default=False)],
    models: Annotated[bool, typer.Option("--models", help="push the trained models too")] = False,
    dry_run: Annotated[
        str | None,
        typer.Option("--dry-run", metavar="FOLDER", help="write what would be pushed to FOLDER instead"),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="identifier for the cards, such as apache-2.0", show_default=False),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="a new repository is public")] = False,
) -> None:
    """Push all published rounds as a dataset, and models, with cards. New repositories are private.

    The dataset has a config for each round, and one for all of them. Models: round K is the revision
    round-00K, the last one main. The token comes from HF_TOKEN, another Hub from HF_ENDPOINT.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    check_run(run, "RUN")
    directory = RunDir(run)
    overview.recipe_of(directory)  # raises if there is no run
    if directory.local is None:
        raise ConfigError(f"{run}: a run on an object store has published nothing.")
    try:
        validate_repo_id(to)
    except HFValidationError as e:
        raise ConfigError(f"--to {to}: {e}") from None
    if to.count("/") != 1:
        raise ConfigError(f"--to {to}: expected OWNER/NAME, such as my-team/sums")
    if dry_run is not None:
        if Path(dry_run).exists() and any(Path(dry_run).iterdir()):
            raise ConfigError(f"--dry-run {dry_run} exists and is not empty; choose a new folder.")
        with atomic_folder(dry_run) as folder:
            _stage(directory, folder, to, models, licence)
        say(f"{dry_run}: what would be pushed to {to}; read its cards (README.md) first")
        return
    api = _hub()
    # Beside the run: weights are linked, not copied.
    with tempfile.TemporaryDirectory(prefix=".push-", dir=directory.local) as folder:
        rounds = _stage(directory, Path(folder), to, models, licence)
        _upload(api, Path(folder), to, rounds, public)


def _stage(run: RunDir, folder: Path, to: str, models: bool, licence: str | None) -> list[int]:
    """Write what is pushed to a folder; return the rounds of the models."""
    rows = stage_dataset(run, folder / "dataset", to, licence)
    say(f"dataset: {rows:,} rows")
    rounds = stage_models(run, folder / "models", to, to, licence) if models else []
    if rounds:
        say(f"models: rounds {', '.join(map(str, rounds))}")
    return rounds


def _hub() -> Any:
    from huggingface_hub import HfApi, constants

    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise ConfigError(
            f"{TOKEN} is not set: export a token that may write (https://hf.co/settings/tokens)."
        )
    if constants.is_offline_mode():
        raise ConfigError("HF_HUB_OFFLINE is set, so nothing can be pushed: unset it.")
    return HfApi(token=token)


def _upload(api: Any, folder: Path, to: str, rounds: list[int], public: bool) -> None:
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    try:
        url = api.create_repo(to, repo_type="dataset", private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=to,
            repo_type="dataset",
            folder_path=folder / "dataset",
            commit_message="selfloop push",
            delete_patterns=["data/**", "cards/**"],  # rounds of an earlier push that are gone
        )
        say(f"pushed: {url}")
        if rounds:
            url = api.create_repo(to, repo_type="model", private=not public, exist_ok=True)
        for round_ in rounds:
            name = f"round-{round_:03d}"
            revisions = [name, "main"] if round_ == rounds[-1] else [name]
            for revision in revisions:
                if revision != "main":
                    api.create_branch(to, branch=revision, exist_ok=True)
                api.upload_folder(
                    repo_id=to,
                    folder_path=folder / "models" / name,
                    revision=revision,
                    commit_message=f"selfloop push, round {round_}",
                )
            say(f"pushed: {url} ({', '.join(revisions)})")
    except (HfHubHTTPError, httpx.HTTPError, OSError) as e:
        raise SelfloopError(
            f"the push to {to} stopped: {e}\nWhat was pushed stays; the same command pushes the rest. "
            f"Is {TOKEN} a token that may write there?"
        ) from None


if __name__ == "__main__":
    main(push)
