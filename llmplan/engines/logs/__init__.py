"""Start-up logs of vLLM, SGLang, TensorRT-LLM and llama.cpp, read into one value."""

from llmplan.engines.logs.facts import Concurrency, Figure, LogFacts, Outcome, RankFacts, Reading
from llmplan.engines.logs.reading import read_log

__all__ = ["Concurrency", "Figure", "LogFacts", "Outcome", "RankFacts", "Reading", "read_log"]
