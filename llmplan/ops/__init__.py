"""Operator vocabulary: what a model is made of, in numpy only.

Reading order: ``base``, then ``linear``, ``attention``, ``latent``, ``moe`` and the rest.
"""
