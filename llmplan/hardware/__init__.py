"""Devices, nodes and groups of them: facts read from ``hardware/*.yaml``, each with its source."""
