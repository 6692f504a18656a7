"""How torch runs each operator, chosen by the operator's type."""
