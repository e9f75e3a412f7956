"""Figures of trained models, side by side: t-SNE of their features, feature maps, class activation maps.

The command is `covidcxnet figures`. Import the module that is needed; this one imports none of them.
"""
