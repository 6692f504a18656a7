"""Types of node as YAML."""

from collections.abc import Iterator

from fuzz.common import Target
from fuzz.spec_yaml import documents, mutate_yaml
from llmplan.hardware.reading import read_node


def seeds() -> Iterator[bytes]:
    """Types of node of the catalogue."""
    yield from documents("hardware/nodes")


TARGET = Target("node_yaml", "node.yaml", read_node, seeds, mutate_yaml)
