"""The arena: arms that share a recipe and seeds, run one after the other and compared at equal compute."""
