"""Coverage-guided fuzzing of every reader of files that others wrote. Start: ``python -m fuzz``."""
