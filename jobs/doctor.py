"""Are machine and cluster fit for a run? python -m jobs.doctor [--run DIR] [--address A] [--quick]"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs.common import AddressOption, JsonOption, main
from jobs.showing import print_json, show
from pipeline.checks import Finding, machine, ok, problem, ray_cluster, software, storage, warning
from stages.sandbox import isolation_problem
from stages.sandbox.client import ADVICE, MEANS

_LOOK = {"ok": ("ok      ", "green"), "warning": ("warning ", "yellow"), "problem": ("PROBLEM ", "red")}


def doctor(
    run: Annotated[
        str | None, typer.Option("--run", help="run directory to check, whether it exists yet or not")
    ] = None,
    address: AddressOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="do not start Ray to see whether it starts")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check Python, packages, CPU, memory, disks, run directory and Ray. Exits with 1 on a problem."""
    findings: list[Finding] = []
    for finding in _findings(run, address, quick):
        findings.append(finding)
        if not as_json:
            _show(finding)
    problems, warnings = (sum(f.state == state for f in findings) for state in ("problem", "warning"))
    if as_json:
        print_json({"problems": problems, "warnings": warnings, "findings": [asdict(f) for f in findings]})
    else:
        counts = f"{problems} problems, {warnings} warnings"
        show(counts if problems or warnings else "all in order", style="bold")
    if problems:
        raise typer.Exit(1)


def _findings(run: str | None, address: str | None, quick: bool) -> Iterator[Finding]:
    yield from software.python()
    yield from software.packages()
    yield from software.torch()
    yield from software.packaged_model()
    yield from machine.cores()
    yield from machine.features()
    yield from machine.memory()
    yield from machine.leftovers()
    yield from storage.free_space(run)
    if run is not None and (file := _file_in_the_way(run)):
        yield problem("run directory", f"{file} is a file, not a folder", "Choose another --run directory.")
    elif run is not None:
        yield from storage.run_directory(run)
    yield _sandbox()
    yield from ray_cluster.ray(address, quick)


def _sandbox() -> Finding:
    if why := isolation_problem():
        return warning("sandbox", f"no isolation for programs (verifier code_tests): {why}", ADVICE)
    return ok("sandbox", f"programs (verifier code_tests) run with {MEANS}")


def _file_in_the_way(run: str) -> Path | None:
    """Return the file that `run` is, or that one of its parent folders is."""
    path = Path(run).absolute()
    return next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), None)


def _show(finding: Finding) -> None:
    mark, style = _LOOK[finding.state]
    show(f"{mark}{finding.name}: {finding.text}", style="" if finding.state == "ok" else style)
    if finding.advice:
        show(finding.advice, indent=len(mark))


if __name__ == "__main__":
    main(doctor)
