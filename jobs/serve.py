"""Keep engines warm between jobs.

python -m jobs.serve RECIPE --name NAME [--model PATH] | --status | --stop
"""

import asyncio
import dataclasses
import os
from typing import Annotated, Any

import typer

from jobs.common import AddressOption, SetOption, main, recipe_path
from jobs.inspect import JsonOption
from jobs.showing import print_json, show
from pipeline import cluster
from pipeline.config import Recipe, load_recipe
from pipeline.errors import ConfigError, EngineError, SelfloopError

STATUS_SECONDS = 10.0
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
        typer.Option("--logs", help="folder for the engines' output, on every node; default: Ray's logs"),
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="end the pool NAME")] = False,
    status: Annotated[
        bool, typer.Option("--status", help="list the pools, their models and their load")
    ] = False,
    set: SetOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start engines that outlive this job, so that later jobs find them running. Needs a running cluster."""
    if stop and status:
        raise ConfigError("--stop and --status: give one of them")
    if status:
        _connect(address)
        _show_status(asyncio.run(_status(name)), as_json)
        return
    if name is None:
        raise ConfigError("--name is missing: the name of the pool, such as --name warm")
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ConfigError(f"--name {name!r}: expected letters, digits, '-', '_' and '.'")
    if stop:
        _connect(address)
        show(f"stopped {asyncio.run(_stop(name))} engines of {name}")
        return
    if recipe is None:
        raise ConfigError("RECIPE is missing: the recipe whose engine is to be served")
    settings = load_recipe(recipe_path(recipe), set or ())
    if not settings.engine.implementation.replicated:
        raise ConfigError(
            f"{recipe}: engine.kind is {settings.engine.kind}, which starts no engines of its own: there is "
            "nothing to keep warm. Use kind vllm."
        )
    address = address or settings.runner.address
    _connect(address)
    asyncio.run(_start(settings, name, model, logs))
    show(f"ready. Jobs on this cluster use these engines with: --set runner.engine_pool={name}")
    show(f"end them with: selfloop serve --name {name} --stop{f' --address {address}' if address else ''}")


def _connect(address: str | None) -> None:
    """Connect to a named cluster; a local Ray, which Ray would find by itself, ends with its job."""
    if not (address or os.environ.get("RAY_ADDRESS")):
        raise SelfloopError(
            "serve needs a running cluster: engines in a local Ray would end with this command. Start one "
            "with `ray start --head` and give --address auto (or set RAY_ADDRESS), or submit this as a job "
            "with `ray job submit`."
        )
    cluster.connect(address)


async def _start(settings: Recipe, name: str, model: str | None, logs: str | None) -> None:
    from pipeline.chat.settle import settle
    from pipeline.engines import replica
    from pipeline.methods import method_class
    from pipeline.models import resolve_model

    if replica.named_replicas(name):
        raise SelfloopError(
            f"there are engines called {name!r} already. See them with --status, end them with --stop, or "
            "choose another --name."
        )
    config: Any = settings.engine
    ref = resolve_model(model or settings.model.base, None if model else settings.model.revision)
    ref = dataclasses.replace(ref, chat=settle(settings, method_class(settings).dataset).model.chat)
    show(f"loading {ref.name}@{ref.revision[:12]} (engines: {config.replicas}); this takes a minute or so")
    replicas = replica.start_replicas(config, logs, name)
    try:
        await replica.load_model(replicas, ref, settings.model.trust_remote_code, config.start_timeout)
    except BaseException:
        await replica.end_replicas(replicas)
        raise


async def _stop(name: str) -> int:
    import ray

    from pipeline.engines import replica

    actors = replica.named_replicas(name)
    if not actors:
        pools = sorted({actor.rpartition("/")[0] for actor in replica.named_replicas()})
        known = f"There are: {', '.join(pools)}." if pools else "There are none at all."
        raise SelfloopError(f"there are no engines called {name!r} on this cluster. {known}")
    await replica.end_replicas([ray.get_actor(actor, replica.NAMESPACE) for actor in actors])
    return len(actors)


async def _status(name: str | None) -> list[dict[str, Any]]:
    import ray

    from pipeline.engines import replica

    engines = []
    for actor in replica.named_replicas(name):
        pool, _, number = actor.rpartition("/")
        engine: dict[str, Any] = {"pool": pool, "engine": int(number), "model": None}
        engine |= {"running": None, "waiting": None, "state": "no model loaded"}
        try:
            answer = replica.result_of(ray.get_actor(actor, replica.NAMESPACE).status.remote())
            model, load = await asyncio.wait_for(answer, STATUS_SECONDS)
            engine |= {"running": load.running, "waiting": load.waiting}
            if model:
                engine |= {"model": f"{model.name}@{model.revision[:12]}", "state": "ready"}
        except TimeoutError:
            engine["state"] = "no answer: it is starting, waiting for CPUs or GPUs, or hanging"
        except (EngineError, ValueError) as e:
            engine["state"] = str(e)
        engines.append(engine)
    return engines


def _show_status(engines: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(engines)
        return
    if not engines:
        show("no engines are kept warm on this cluster")
    for e in engines:
        load = f", {e['running']} running, {e['waiting']} waiting" if e["running"] is not None else ""
        show(f"{e['pool']}/{e['engine']}: {e['state']}{', ' + e['model'] if e['model'] else ''}{load}")


if __name__ == "__main__":
    main(serve)
