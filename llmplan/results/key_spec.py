"""What ``keys.yaml`` may say of the keys of results."""

from pydantic import BaseModel, ConfigDict, Field

from llmplan.units import Provenance


class KeyEntry(BaseModel):
    """What the schema does not say of one key.

    All but the formula hold for figures inside an object as well, unless these state their own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: str = ""
    """Unit, where the name of the key does not end in it."""
    formula: str = ""
    """How it is computed, in a line or two."""
    provenance: list[Provenance] = []
    """Where it may come from, strongest first."""
    changed_by: list[str] = []
    """Arguments and options of the command that change it, headings of options, or groups."""
    page: str = ""
    """Page that says more, from the root of the project, where it is not the command's."""


class CommandKeys(BaseModel):
    """Entries for the result of one command."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    page: str = ""
    """Page that says more of the command's keys; its reference where none is given."""
    groups: dict[str, list[str]] = {}
    """Arguments and options that change many figures together, by a name."""
    keys: dict[str, KeyEntry] = {}
    """By place in the result, lists and mappings without their marks."""

    def spelled_out(self, changed_by: list[str]) -> list[str]:
        """Arguments and options with groups in full."""
        return [option for name in changed_by for option in self.groups.get(name, [name])]


class KeysFile(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    commands: dict[str, CommandKeys] = Field(default_factory=dict)
    """By command."""
