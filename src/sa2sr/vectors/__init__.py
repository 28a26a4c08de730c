"""Utterances become vectors of a fixed size: of their words, of their sound."""
