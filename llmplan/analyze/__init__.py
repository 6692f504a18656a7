"""One model, one question, one frozen value: parameters, FLOPs, memory, fit."""
