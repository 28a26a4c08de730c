"""From a model folder and audio to a table of emotions."""
