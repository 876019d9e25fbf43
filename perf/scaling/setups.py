"""What is run: architecture, sizes, ranks and threads of one forward. Without numpy, so that studies run where it is missing."""
import dataclasses

ARCHITECTURES = ("bsbr", "standard", "linear", "delta_net", "sliding_window", "hopfield", "gau")


@dataclasses.dataclass(frozen=True)
class Setup:
    """One forward: what is computed, and on how many ranks and threads. Fields have the names of the summary of bsbr_forward."""

    architecture: str
    length: int
    ranks: int = 1
    threads_per_rank: int = 1
    batch: int = 1
    hidden_dim: int = 512
    num_heads: int = 8
    num_layers: int = 4
    ff_dim: int = 2048
    chunk_size: int = 128
    causality: str = "causal"
    window_size: int = 128
    expansion_factor: int = 1
    precision: str = "float"

    @classmethod
    def of(cls, summary):
        """The setup of a summary of bsbr_forward."""
        return cls(**{field.name: summary[field.name] for field in dataclasses.fields(cls) if field.name in summary})

    @property
    def width(self):
        """a, the width of queries, keys and values."""
        return self.hidden_dim * (self.expansion_factor if self.architecture == "gau" else 1)

    @property
    def head_dim(self):
        return self.width // self.num_heads

    @property
    def projections(self):
        return 4 if self.architecture == "gau" else 3

    @property
    def chunks(self):
        return -(-self.length // self.chunk_size)

    @property
    def number_bytes(self):
        return 8 if self.precision == "double" else 4

    def begin(self, rank):
        """First token of a rank; with `ranks` for rank: the length. Also for an array of ranks."""
        token = rank * self.chunks // self.ranks * self.chunk_size
        return token - (token > self.length) * (token - self.length)  # the smaller of both

    def local_chunks(self, rank):
        return (rank + 1) * self.chunks // self.ranks - rank * self.chunks // self.ranks

    def tokens(self, rank):
        return self.begin(rank + 1) - self.begin(rank)
