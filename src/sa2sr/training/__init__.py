"""From cuts and a recipe to a run folder and a model folder."""
