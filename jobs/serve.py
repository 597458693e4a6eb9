"""Keep engines warm between jobs: python -m jobs.serve RECIPE --name NAME [--model PATH] | --status | --stop"""

import asyncio
import os
from typing import Annotated, Any

import typer

from jobs.common import AddressOption, SetOption, main, recipe_path
from jobs.inspect import JsonOption
from jobs.showing import print_json, show
from pipeline.config import VllmEngine, load_recipe
from pipeline.errors import ConfigError, EngineError, SelfloopError

STATUS_SECONDS = 10.0
STOP_SECONDS = 60.0
NameOption = Annotated[
    str | None,
    typer.Option(
        "--name", help="name of the pool; jobs use it with --set runner.engine_pool=NAME", show_default=False
    ),
]


def serve(
    recipe: Annotated[
        str | None, typer.Argument(help="recipe whose engine section is served", show_default=False)
    ] = None,
    name: NameOption = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="folder or Hub id to load first; default: the recipe's model.base"),
    ] = None,
    logs: Annotated[
        str | None,
        typer.Option("--logs", help="folder for what vLLM prints, on every node; default: Ray's logs"),
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="end the pool NAME")] = False,
    status: Annotated[
        bool, typer.Option("--status", help="list the pools, their models and their load")
    ] = False,
    set: SetOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start vLLM engines that outlive this job, so that the next jobs find them running. Needs a running cluster."""
    if stop and status:
        raise ConfigError("--stop and --status: give one of them")
    if status:
        _connect(address)
        _show_status(asyncio.run(_status(name)), as_json)
        return
    if name is None:
        raise ConfigError("--name is missing: what the pool is called, such as --name warm")
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ConfigError(f"--name {name!r}: expected letters, digits, '-', '_' and '.'")
    if stop:
        _connect(address)
        show(f"stopped {asyncio.run(_stop(name))} engines of {name}")
        return
    if recipe is None:
        raise ConfigError("RECIPE is missing: the recipe whose engine is to be served")
    settings = load_recipe(recipe_path(recipe), set or ())
    if not isinstance(settings.engine, VllmEngine):
        raise ConfigError(
            f"{recipe}: engine.kind is {settings.engine.kind}; only vllm engines are started by selfloop, so only they can be kept warm."
        )
    address = address or settings.runner.address
    _connect(address)
    asyncio.run(_start(settings, name, model, logs))
    show(f"ready. Jobs on this cluster use these engines with: --set runner.engine_pool={name}")
    show(f"end them with: selfloop serve --name {name} --stop{f' --address {address}' if address else ''}")


def _connect(address: str | None) -> None:
    """Connect to a cluster that was named. A Ray of this or another process, which Ray would find by itself, ends with that process."""
    from pipeline import cluster

    if not (address or os.environ.get("RAY_ADDRESS")):
        raise SelfloopError(
            "serve needs a running cluster: in a Ray that starts and ends with a command the engines would be gone with it. "
            "Start one with `ray start --head` and give --address auto (or set RAY_ADDRESS), or submit this as a job with `ray job submit`."
        )
    cluster.connect(address)


async def _start(settings: Any, name: str, model: str | None, logs: str | None) -> None:
    from pipeline.engines.pool import all_of, start_replicas
    from pipeline.models import resolve_model

    if _actors(name):
        raise SelfloopError(
            f"there are engines called {name!r} already. See them with --status, end them with --stop, or take another --name."
        )
    config = settings.engine
    ref = resolve_model(model or settings.model.base, None if model else settings.model.revision)
    show(f"loading {ref.name}@{ref.revision[:12]} (engines: {config.replicas}); this takes a minute or so")
    replicas = start_replicas(config, logs, name)
    try:
        await asyncio.wait_for(
            all_of(_answer(r.load.remote(ref, settings.model.trust_remote_code)) for r in replicas),
            config.start_timeout,
        )
    except BaseException as e:
        await _end(replicas)
        if isinstance(e, TimeoutError):
            raise SelfloopError(
                f"the engines were not ready within engine.start_timeout = {config.start_timeout:g} s. "
                "Does the cluster have the CPUs or GPUs they ask for? (ray status)"
            ) from None
        if isinstance(e, EngineError):
            raise SelfloopError(str(e)) from e
        raise


async def _stop(name: str) -> int:
    import ray

    from pipeline.engines.pool import NAMESPACE

    actors = _actors(name)
    if not actors:
        known = sorted({a.rsplit("/", 1)[0] for a in _actors(None)})
        raise SelfloopError(
            f"there are no engines called {name!r} on this cluster. "
            + (f"There are: {', '.join(known)}." if known else "There are none at all.")
        )
    await _end([ray.get_actor(a, NAMESPACE) for a in actors])
    return len(actors)


async def _end(replicas: list[Any]) -> None:
    """Close engines, which ends their processes, then their actors; one that does not answer is ended all the same."""
    import ray

    closing = [asyncio.ensure_future(_answer(r.close.remote())) for r in replicas]
    if closing:
        await asyncio.wait(closing, timeout=STOP_SECONDS)
    for future in closing:
        future.cancel()
    await asyncio.gather(*closing, return_exceptions=True)
    for replica in replicas:
        ray.kill(replica, no_restart=True)


async def _status(name: str | None) -> list[dict[str, Any]]:
    import ray

    from pipeline.engines.pool import NAMESPACE

    found = []
    for actor in _actors(name):
        pool, _, number = actor.rpartition("/")
        facts: dict[str, Any] = {
            "pool": pool,
            "engine": int(number),
            "model": None,
            "running": None,
            "waiting": None,
            "state": "ready",
        }
        try:
            model, load = await asyncio.wait_for(
                _answer(ray.get_actor(actor, NAMESPACE).status.remote()), STATUS_SECONDS
            )
            facts |= {
                "model": f"{model.name}@{model.revision[:12]}" if model else None,
                "running": load.running,
                "waiting": load.waiting,
            }
            facts["state"] = "ready" if model else "no model loaded"
        except (TimeoutError, EngineError, ValueError) as e:
            facts["state"] = (
                "no answer: it starts, waits for CPUs or GPUs, or hangs"
                if isinstance(e, TimeoutError)
                else str(e)
            )
        found.append(facts)
    return found


def _show_status(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    if not found:
        show("no engines are kept warm on this cluster")
    for f in found:
        load = f", {f['running']} running, {f['waiting']} waiting" if f["running"] is not None else ""
        show(f"{f['pool']}/{f['engine']}: {f['state']}{', ' + f['model'] if f['model'] else ''}{load}")


def _actors(name: str | None) -> list[str]:
    """Return the names of the engine actors of one pool, or of all, in order."""
    import ray

    from pipeline.engines.pool import NAMESPACE

    names = [
        a["name"] for a in ray.util.list_named_actors(all_namespaces=True) if a["namespace"] == NAMESPACE
    ]
    mine = [
        n for n in names if n.rpartition("/")[2].isdigit() and (name is None or n.rpartition("/")[0] == name)
    ]
    return sorted(mine, key=lambda n: (n.rpartition("/")[0], int(n.rpartition("/")[2])))


async def _answer(ref: Any) -> Any:
    from pipeline.engines.pool import _unwrap

    return await _unwrap(ref)


if __name__ == "__main__":
    main(serve)
