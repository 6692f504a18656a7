"""Result values as they are published: pydantic, with units in names and a schema version."""

# numpy before pydantic: with pydantic comes typing_extensions, which on Python 3.11 makes the many
# literal types of numpy several times as slow to create, a fifth of the time a command takes.
import numpy as np  # noqa: F401
