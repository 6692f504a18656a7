"""Renderers of results: they read published results and nothing else."""
