"""From frames to encoder states, and from states to transcripts, sentiment and emotions."""
