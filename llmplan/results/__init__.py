"""Result values as they are published: pydantic, with units in names and a schema version."""
