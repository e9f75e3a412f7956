"""Experiments of many trainings: `sweep.sweep` trains a recipe over values and repeats and sums up what came out."""
