"""What ranks send while loss and gradients of one batch are computed: a step of training, but for the new weights.

As model.traffic() for a forward pass, this is exact, for sequences without padding and states that are not compressed; the tests compare it
with what bsbr_evaluate --gradients counts. docs/scaling.md has the formulas, docs/architecture.md says what the messages are.
"""
import collections
import dataclasses

import numpy as np

import model
from setups import DEFAULT, Setup

# Sizes of src/kernels/sizes.hpp; a test compares them.
LEAVES, LEAF_TOKENS = 16, 1024


@dataclasses.dataclass(frozen=True)
class Step(Setup):
    """Loss and gradients of one batch. recompute: "all" or "none"."""

    vocab_size: int = DEFAULT["vocab_size"]
    head: str = "tied"
    null_chunk: int = DEFAULT["null_chunk"]
    retrieval_gate: int = DEFAULT["retrieval_gate"]
    recompute: str = "all"

    @property
    def chunks_together(self):
        """Chunks of a leaf, which no border between ranks cuts."""
        return max(1, min(self.chunks // LEAVES, max(1, LEAF_TOKENS // self.chunk_size)))

    @property
    def parameters(self):
        return sum(summed_weights(self)) - (self.head == "tied") * self.vocab_size * self.hidden_dim


def total(counts):
    """The sum of several traffics: transfer -> (bytes, messages)."""
    sums = collections.defaultdict(lambda: (0, 0))
    for traffic in counts:
        for transfer, sent in traffic.items():
            sums[transfer] = tuple(map(sum, zip(sums[transfer], sent)))
    return dict(sums)


def traffic(step, rank):
    """What a rank sends in one step: transfer -> (bytes, messages)."""
    sent = [{"gradients": gradients_sent(step, rank)}]
    if step.ranks > 1:
        forwards = step.num_layers + (step.num_layers - 1 if step.recompute == "all" else 0)
        sent += [kept_traffic(step, rank)] * forwards + [backward_traffic(step, rank)] * step.num_layers
    return total(sent)


def bytes_sent(step):
    """Of the rank that sends the most: transfer -> bytes, and total."""
    of_ranks = [{name: size for name, (size, _) in traffic(step, rank).items()} for rank in model.some_ranks(step)]
    busiest = max(of_ranks, key=lambda sent: sum(sent.values()))
    return {**busiest, "total": sum(busiest.values())}


# ---- layers ---------------------------------------------------------------------------------------------------------------------------


def kept_traffic(step, rank):
    """A forward pass of a layer that keeps what its gradient needs: of bsbr also the log-sums of the mixing."""
    sent = model.traffic(step, rank)
    if step.traits.transfer == "chunk_states":
        _, back = model.state_numbers(step, rank, others(step, rank), 1)
        sent["mixing_weights"] = model.counted(step, back)
    return sent


def backward_traffic(step, rank):
    """The backward pass of a layer, without what is computed again."""
    if step.traits.transfer == "chunk_states":
        return chunk_gradients(step, rank)
    if step.traits.transfer == "state":
        return total([step_halos(step, rank), state_gradients(step, rank)])
    return head_gradients(step, rank) if model.by_heads(step) else window_gradients(step, rank)


def others(step, rank):
    return np.delete(np.arange(step.ranks), rank)


def chunk_gradients(step, rank):
    """Of bsbr: dG with log-sums and δ to the blocks, dF and the parts of dr and dh back; r and h, and in the end dr, to all."""

    def moved(width=None):
        return model.state_numbers(step, rank, others(step, rank), width)

    gathered = step.number_bytes * step.batch * 3 * step.hidden_dim * int(step.local_chunks(rank)) * (step.ranks - 1)
    return {"states": model.counted(step, *moved()),
            "mixing_weights": model.counted(step, moved(2)[0]),
            "retrieval_gradients": model.counted(step, moved(2 * step.head_dim)[1]),
            "retrieval_vectors": (gathered, 2 * (step.ranks - 1))}


def head_gradients(step, rank):
    """By heads: q, k, v, do and δ there, dq, dk and dv back; ranks that share a head tell each other the log-sums of their queries."""
    d, workers = step.head_dim, others(step, rank)
    heads, sharers, place = model.dealing(step.num_heads, step.ranks, rank)
    there = step.batch * (4 * d + 1) * int(step.tokens(rank)) * model.dealing(step.num_heads, step.ranks, workers)[0]
    dealt = model.dealt(step.begin(workers + 1), sharers, place) - model.dealt(step.begin(workers), sharers, place)
    log_sums = [step.batch * int(model.dealt(step.length, sharers, place))] * (int(sharers) - 1)
    return {"heads": model.counted(step, there, step.batch * 3 * d * heads * dealt, log_sums)}


def window_gradients(step, rank):
    """Keys and values of earlier tokens, as in the forward pass; and q, do, log-sums and δ of the later ones that see a rank's keys."""
    if not model.moves_halo(step):
        return {}
    earlier = others(step, rank)
    needed = np.where(step.tokens(earlier) > 0, np.minimum(step.length, step.begin(earlier + 1) + step.window), 0)
    rows = np.maximum(0, np.minimum(needed, step.begin(rank + 1)) - np.maximum(step.begin(rank), step.begin(earlier + 1)))
    keys = model.halo_rows(step, rank, earlier)
    return {"halo": model.counted(step, keys * step.batch * 2 * step.width, rows * step.batch * 2 * (step.width + step.num_heads))}


def normalisers(step):
    """Columns that a head's result has besides its own: the sum of its weights."""
    return int("feature_map" in step.traits.fields and step.feature_map == "elu")


def solves(step):
    return step.architecture in model.SOLVES


def step_halos(step, rank):
    """Of a scan's gradients: q, k, v and do, and of delta_net u and dv, of the tokens of the tiles that two ranks share."""
    size, rows = model.scan_step(step), []
    if not any(set(tile_of(step, one, size)) - {int(step.begin(one)), int(step.begin(one + 1))} for one in range(step.ranks)):
        return {}
    begin, end = int(step.begin(rank)), int(step.begin(rank + 1))
    for other in others(step, rank):
        needed = tile_of(step, other, size)
        rows.append(max(0, min(needed[1], end) - max(needed[0], begin)))
    widths = [step.width] * (5 if solves(step) else 3) + [step.width + step.num_heads * normalisers(step)]
    return {"halo": model.counted(step, *(np.array(rows) * step.batch * width for width in widths))}


def tile_of(step, rank, size):
    """The tokens of all the steps in which a rank has some."""
    begin, end = int(step.begin(rank)), int(step.begin(rank + 1))
    return (begin, end) if begin == end else (begin // size * size, min(step.length, -(-end // size) * size))


def state_gradients(step, rank):
    """The scans of a gradient: three, from the first token dq, from the last one dk and dv; of delta_net two each for dq and dk."""
    parts, _ = model.scan_parts(step)
    blocks = -(-step.head_dim // model.SCAN_COLUMNS)
    of_values = parts * step.head_dim * -(-step.head_dim // blocks)
    of_rows = of_values // step.head_dim * (step.head_dim + normalisers(step))
    values = model.Scan(of_values * (2 if solves(step) else 1), of_values, solves(step), mirrored=True)
    rows = [model.Scan(of_rows, of_rows, False, mirrored) for mirrored in (False, True)] * (2 if solves(step) else 1)
    if step.tokens(rank) == 0:
        return {}
    return {"state": model.counted(step, *(model.segment_messages(step, rank, scan) for scan in (values, *rows)))}


# ---- sums over all tokens -------------------------------------------------------------------------------------------------------------


def summed_weights(step):
    """Elements of the arrays that are summed together: final norm, head; of each layer the attention's and the others; the embedding."""
    hidden, width, traits = step.hidden_dim, step.width, step.traits
    norm, table = 2 * hidden, step.vocab_size * hidden
    attention = len(traits.token_projections) * width * (hidden + 1) + len(traits.chunk_projections) * hidden * (hidden + 1)
    if "null_chunk" in traits.fields:
        attention += (step.null_chunk + step.retrieval_gate) * step.num_heads
    others = hidden * (width + 1) + norm + step.ff_dim * (hidden + 1) + hidden * (step.ff_dim + 1)
    return [norm, table, *[attention + norm, others] * step.num_layers, table]


def gradients_sent(step, rank):
    """Bytes and messages of a rank's nodes of the tree, in parts, to the parts' owners; and of its own part of the sum to all."""
    nodes, numbers = nodes_of(step, rank), []
    for elements in summed_weights(step):
        own, of_others = model.part(elements, step.ranks, rank), model.part(elements, step.ranks, others(step, rank))
        numbers += [nodes * of_others, [own] * (step.ranks - 1)]
    return model.counted(step, *numbers)


def nodes_of(step, rank):
    """How many nodes a rank forms of its leaves, row after row of the batch: as src/parallel/ordered_sum.hpp joins them."""
    of_row = step.units
    leaves, found = step.batch * of_row, []  # nodes: first leaf, level
    levels = max(0, leaves - 1).bit_length()

    def raised(first, level):
        while level < levels and not first >> level & 1 and first + (1 << level) >= leaves:
            level += 1
        return first, level

    for row in range(step.batch):
        for leaf in range(row * of_row + rank * of_row // step.ranks, row * of_row + (rank + 1) * of_row // step.ranks):
            found.append(raised(leaf, 0))
            while len(found) > 1 and found[-2][1] == found[-1][1] and found[-2][0] + (1 << found[-1][1]) == found[-1][0] \
                    and not found[-2][0] >> found[-1][1] & 1:
                found.pop()
                found[-1] = raised(found[-1][0], found[-1][1] + 1)
    return len(found)
