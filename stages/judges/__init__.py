"""Verifiers that ask a model: judges, reward models, and several verifiers as one.

base.py says what such a verifier is, stage.py makes the stage verify of it, measured.py how good it is.
"""
