"""Simulated chains of fits agree with the closed forms of model collapse."""

from tests.benchmarks.collapse import TOLERATED_Z, main


def test_simulation_agrees_with_the_closed_forms(capsys) -> None:
    assert main(300) < TOLERATED_Z
    assert capsys.readouterr().out.count("closed form") == 9
