"""The cases of an architecture: sizes, padding and settings of its golden files."""
import numpy as np


class Case:
    """One golden file, `<architecture>_<name>.h5`.

    notes: what the case is for.
    length: tokens of a sequence.
    masks: None, or the kind of padding of all rows of the batch ("holes") or of each ("holes,right"): see is_real.
    layers: whether the file has the residual stream after each layer, too.
    config: fields of the configuration that differ from those below.
    """

    def __init__(self, name, notes, *, length, batch=1, masks=None, layers=False, **config):
        self.name, self.notes = name, notes
        self.length, self.batch, self.masks, self.layers = length, batch, masks, layers
        self.config = {"vocab_size": 31, "hidden_dim": 12, "num_layers": 1, "num_heads": 2, "ff_dim": 19,
                       "chunk_size": 8, "dropout": 0.1, **config}

    def mask(self):
        """1 for a real token, 0 for padding, [batch, length] of int8; None without padding."""
        if self.masks is None:
            return None
        kinds = self.masks.split(",")
        mask = np.zeros((self.batch, self.length), np.int8)
        for row in range(self.batch):
            kind, variant = (kinds[0], row) if len(kinds) == 1 else (kinds[row], 0)
            for t in range(self.length):
                mask[row, t] = is_real(kind, variant, t, self.length, self.config["chunk_size"])
        return mask


def is_real(kind, variant, t, length, chunk_size):
    """Whether token t is real in a row with this kind of padding; variants differ in where the padding is."""
    chunk = t // chunk_size
    if kind == "all":  # everything is padding
        return False
    if kind == "holes":  # every third or fourth token is padding, and so are ends of some chunks
        return t % (3 + variant) != 2
    if kind == "right":  # a whole chunk and more
        return t < length - (chunk_size + 2) - 3 * variant
    if kind == "left":  # two chunks and more
        return t >= 2 * chunk_size + 1 + 2 * variant
    if kind == "gap":  # whole chunks in the middle, and the end of every second chunk
        ends_even_chunk = chunk % 2 == 0 and t % chunk_size == chunk_size - 1
        return not (1 + variant <= chunk <= 2 or ends_even_chunk)
    raise ValueError(f"no kind of padding is called '{kind}'")


ROWS_NOTES = ("batch rows: mask with holes, padding on the right, padding on the left that covers whole chunks; "
              "tail of one token")
DEFAULTS = {
    "multiple": dict(notes="length a multiple of the chunk", length=24, vocab_size=41, hidden_dim=24, ff_dim=29),
    "ragged": dict(notes="ragged tail", length=29, num_layers=2, layers=True),
    "masks": dict(notes=ROWS_NOTES, length=25, batch=3, masks="holes,right,left", hidden_dim=10, num_layers=2),
    "mask_row": dict(notes="chunks of one token; first row of the batch fully masked", length=9, batch=2,
                     masks="all,holes", hidden_dim=18, num_heads=3, chunk_size=1),
    "short": dict(notes="shorter than one chunk; one head", length=6, batch=2, layers=True, num_heads=1, chunk_size=16),
    "one_token": dict(notes="one token", length=1, layers=True, num_heads=12, chunk_size=4),
}


def default_cases(common=None, **changes):
    """The cases that every architecture has at least.

    common and changes are arguments of Case, such as fields of the configuration that only this architecture has: for
    all of the cases, and for one that is named, as in multiple={"beta": 0.9}.
    """
    unknown = set(changes) - set(DEFAULTS)
    if unknown:
        raise ValueError(f"no default case is called {sorted(unknown)}")
    return [Case(name, **{**default, **(common or {}), **changes.get(name, {})}) for name, default in DEFAULTS.items()]
