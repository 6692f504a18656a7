"""What a serving engine adds to a model: reserved memory, cache pools, defaults and flags."""
