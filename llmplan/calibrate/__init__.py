"""The operators of a model, run with torch on the device at hand: the only room that knows torch."""
