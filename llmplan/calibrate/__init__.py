"""The operators of a model, run with torch on the device at hand; no other room knows torch."""
