"""From a model folder to one that others can use: half precision, a model card, the hub."""
