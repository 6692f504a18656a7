"""What each engine calls its settings: one table an engine, and the rules that a table cannot say.

A flag that is in no table is refused: it might change memory. `Ignored` needs the knowledge that it
does not; buffers of a few MiB (a custom all-reduce) count as nothing.
"""
