"""The architectures and the fields of a configuration, from architectures.json: all that Python knows of them.

The file beside this module is a copy of what the build writes from the library's own lists (docs/formats.md). It is there so that the tools
run from a checkout in which nothing has been built, and in the Python package. A test holds it against the build;
scripts/update-architectures writes it anew.
"""
import dataclasses
import json
import os

KINDS = {"integer": int, "real": float, "name": str}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the library says of an architecture (src/architectures/traits.hpp)."""

    name: str
    fields: tuple  # of the configuration, that not all architectures have
    token_projections: tuple  # linear layers that are applied to every token
    chunk_projections: tuple  # linear layers that are applied to the last token of each chunk
    own_weights: tuple  # of the attention, besides those of projections
    phases: tuple  # of the attention
    transfer: str  # what crosses ranks: "keys", "state", or "chunk_states"
    window_field: str  # the field that limits how many earlier tokens a token sees; None: it sees all
    width_factor: str  # the field by which queries, keys and values are wider than hidden_dim; None: they are as wide
    has_one_head: bool
    depends_on_chunks: bool  # the result depends on chunk_size


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of the configuration. Numbers have a range, names a list of choices."""

    name: str
    help: str
    kind: type  # int, float, or str
    default: object
    may_be_missing: bool  # a model file without it has the default
    owners: tuple  # the architectures that have it; empty: all have it
    least: object = None
    most: object = None
    choices: tuple = ()

    @property
    def option(self):
        return "--" + self.name.replace("_", "-")

    def belongs_to(self, architecture):
        return not self.owners or architecture in self.owners


def _read():
    with open(os.path.join(os.path.dirname(os.path.realpath(__file__)), "architectures.json"), encoding="utf-8") as file:
        content = json.load(file, object_hook=lambda item: {name: tuple(value) if isinstance(value, list) else value
                                                            for name, value in item.items()})
    architectures = {item["name"]: Architecture(**item) for item in content["architectures"]}
    return architectures, {item["name"]: _field(item, architectures) for item in content["fields"]}


def _field(item, architectures):
    kind = KINDS[item.pop("type")]
    typed = {name: kind(item.pop(name)) for name in ("default", "least", "most") if name in item}
    owners = tuple(name for name, architecture in architectures.items() if item["name"] in architecture.fields)
    return Field(**item, **typed, kind=kind, owners=owners)


# By name, in the order of files, tables and help texts.
ARCHITECTURES: dict[str, Architecture]
FIELDS: dict[str, Field]
ARCHITECTURES, FIELDS = _read()
