"""What is run: architecture, sizes, ranks and threads of one forward. Without numpy, so that studies run where it is missing."""
import dataclasses
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "python", "src"))
from bsbr_convert.architectures import ARCHITECTURES, FIELDS  # noqa: E402

DEFAULT = {name: field.default for name, field in FIELDS.items()}


@dataclasses.dataclass(frozen=True)
class Setup:
    """One forward: what is computed, and on how many ranks and threads. Fields have the names of the summary of bsbr_forward."""

    architecture: str
    length: int
    ranks: int = 1
    threads_per_rank: int = 1
    batch: int = 1
    hidden_dim: int = DEFAULT["hidden_dim"]
    num_heads: int = DEFAULT["num_heads"]
    num_layers: int = DEFAULT["num_layers"]
    ff_dim: int = DEFAULT["ff_dim"]
    chunk_size: int = DEFAULT["chunk_size"]
    causality: str = DEFAULT["causality"]
    window_size: int = DEFAULT["window_size"]
    expansion_factor: int = DEFAULT["expansion_factor"]
    feature_map: str = DEFAULT["feature_map"]
    precision: str = "float"

    @classmethod
    def of(cls, summary):
        """The setup of a summary of bsbr_forward."""
        return cls(**{field.name: summary[field.name] for field in dataclasses.fields(cls) if field.name in summary})

    @property
    def traits(self):
        """What the library says of the architecture."""
        return ARCHITECTURES[self.architecture]

    def field(self, name):
        """A field of the configuration. A study sets only some of them; the others are as bsbr_init has them."""
        return getattr(self, name, DEFAULT[name])

    @property
    def width(self):
        """a, the width of queries, keys and values."""
        factor = self.traits.width_factor
        return self.hidden_dim * (self.field(factor) if factor else 1)

    @property
    def window(self):
        """How many earlier tokens a token sees; None: all."""
        return self.field(self.traits.window_field) if self.traits.window_field else None

    @property
    def head_dim(self):
        return self.width // self.num_heads

    @property
    def projections(self):
        return len(self.traits.token_projections)

    @property
    def chunks(self):
        return -(-self.length // self.chunk_size)

    @property
    def number_bytes(self):
        return 8 if self.precision == "double" else 4

    def begin(self, rank):
        """First token of a rank; with `ranks` for rank: the length. Also for an array of ranks."""
        token = self.chunks_before(rank) * self.chunk_size
        return token - (token > self.length) * (token - self.length)  # the smaller of both

    @property
    def chunks_together(self):
        """So many neighbouring chunks are on one rank."""
        return 1

    @property
    def units(self):
        """What ranks share out: chunks, or as many as are together."""
        return -(-self.chunks // self.chunks_together)

    def chunks_before(self, rank):
        """First chunk of a rank; with `ranks` for rank: all chunks. Also for an array of ranks."""
        chunk = rank * self.units // self.ranks * self.chunks_together
        return chunk - (chunk > self.chunks) * (chunk - self.chunks)  # the smaller of both

    def rank_of(self, chunk):
        """The rank that has a chunk."""
        return ((chunk // self.chunks_together + 1) * self.ranks - 1) // self.units

    def local_chunks(self, rank):
        return self.chunks_before(rank + 1) - self.chunks_before(rank)

    def tokens(self, rank):
        return self.begin(rank + 1) - self.begin(rank)


def heads_of(architecture, wanted):
    """As many heads as are wanted, or one where the architecture has one."""
    return 1 if ARCHITECTURES[architecture].has_one_head else wanted
