"""How a model is split: layouts and the rewrite of operators to what one rank holds."""
