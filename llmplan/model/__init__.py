"""From a YAML spec to operators: spec language, blocks, compile, catalogue."""
