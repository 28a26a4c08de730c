"""Recipes and model settings: every key has a type, a range and a meaning; unknown keys are errors."""

from sa2sr.config.base import ALPHABET, DIMENSIONS, SENTIMENTS, Name, Paths, Settings
from sa2sr.config.encoder import EncoderSettings, LoraSettings
from sa2sr.config.model import FrontEnd, ModelSettings, Scale
from sa2sr.config.objectives import (
    ApcSettings,
    CategorySettings,
    CpcSettings,
    CtcSettings,
    EmotionSettings,
    Objectives,
    ObjectiveSettings,
    ReadoutSettings,
    SentimentSettings,
    SpeakerSettings,
    TextSettings,
    probability_of,
)
from sa2sr.config.reading import read_yaml, to_yaml, validate
from sa2sr.config.recipe import Recipe, load_recipe, shipped_recipes
from sa2sr.config.regression import FunctionalFeatures, Regression, RegressionModel, TfIdfFeatures, Transcripts, Vectors
from sa2sr.config.training import Augmentation, Batches, Optimiser, Stage

__all__ = [
    "ALPHABET",
    "DIMENSIONS",
    "SENTIMENTS",
    "ApcSettings",
    "Augmentation",
    "Batches",
    "CategorySettings",
    "CpcSettings",
    "CtcSettings",
    "EmotionSettings",
    "EncoderSettings",
    "FrontEnd",
    "FunctionalFeatures",
    "LoraSettings",
    "ModelSettings",
    "Name",
    "ObjectiveSettings",
    "Objectives",
    "Optimiser",
    "Paths",
    "ReadoutSettings",
    "Recipe",
    "Regression",
    "RegressionModel",
    "Scale",
    "SentimentSettings",
    "Settings",
    "SpeakerSettings",
    "Stage",
    "TextSettings",
    "TfIdfFeatures",
    "Transcripts",
    "Vectors",
    "load_recipe",
    "probability_of",
    "read_yaml",
    "shipped_recipes",
    "to_yaml",
    "validate",
]
