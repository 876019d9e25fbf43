"""The performance model: time by phase, bytes and messages of a forward on any number of ranks.

A phase takes `sum of amount x seconds per unit` on the busiest thread of a rank. Amounts (floating-point operations, elements read or
written) follow from the configuration and from the partition of docs/architecture.md; seconds per unit are measured on the machine
(calibration.py). What crosses ranks is counted exactly. docs/scaling.md has the formulas and lists what is not modelled.

Symbols: L tokens, D hidden_dim, H heads, d head_dim, a = H d, B tokens in a chunk, C chunks, P ranks, T threads of a rank.
"""
import dataclasses
import math

import numpy as np

from study import BAD_INPUT, Failure

PHASES = ("project", "states", "within_chunk", "mixing", "retrieval", "attention", "scan", "finish", "embedding", "final_norm", "exchange",
          "agreement")

# Sizes on a host, of src/kernels/sizes.hpp and src/parallel/message_buffer.hpp; a test compares them.
TILE, STATE_BLOCK, SCAN_COLUMNS, SCAN_SEGMENT, MIXING_ROUNDS = 64, 512, 64, 1024, 16
IDLE_PERCENT, TEAMS_PER_THREAD = 25, 4
MESSAGE_NUMBERS = 1 << 27
AGREEMENTS = 2  # of a layer: small reductions over all ranks
SOLVES = ("delta_net", )  # scans that solve a triangular system in each tile: what they add to the state depends on the state
MANY_RANKS = 64  # beyond this many, the first, the last and some in between stand for all


# ---- amounts of work ------------------------------------------------------------------------------------------------------------------


def seen_keys(setup, tokens):
    """Pairs of a query and a key that softmax tiles compute for the first `tokens` queries: keys and queries come in tiles."""
    if "within_chunk" in setup.traits.phases:
        half = "causality" not in setup.traits.fields or setup.causality in ("causal", "reference")
        return tokens * max(TILE, (setup.chunk_size + TILE) / 2 if half else setup.chunk_size)
    window = setup.length if setup.window is None else -(-setup.window // TILE) * TILE
    growing = min(tokens, window)
    return growing * (growing + TILE) / 2 + (tokens - growing) * (window + TILE)


def softmax_amounts(setup, pairs, width, tokens):
    """pairs: of one head; width: of all heads that are computed; tokens: queries."""
    heads = width / setup.head_dim
    return {"flop": 4 * width * pairs, "weight": heads * pairs, "number": 4 * width * tokens}


def scan_parts(setup):
    """Parts of the running states (a head of a sequence, and a block of columns), and columns of one in memory."""
    blocks = -(-setup.head_dim // SCAN_COLUMNS)
    normaliser = "feature_map" in setup.traits.fields and setup.feature_map == "elu"
    return setup.batch * setup.num_heads * blocks, -(-setup.head_dim // blocks) + normaliser


def sees_own_step(setup):
    """Whether a scan's tokens see those of their own step, a tile; else the step is a chunk, within which there is a softmax."""
    return "within_chunk" not in setup.traits.phases


def scan_step(setup):
    return TILE if sees_own_step(setup) else setup.chunk_size


def segment_tokens(setup):
    """Tokens of a segment of a scan: whole steps."""
    step = scan_step(setup)
    return SCAN_SEGMENT // step * step if step < SCAN_SEGMENT else step


def scan_pass(setup, results, sums):
    """Operations and elements of one token in one part, in a pass that forms results, sums of segments (T and A), or both."""
    d, solves, (_, columns) = setup.head_dim, setup.architecture in SOLVES, scan_parts(setup)
    blocks = results + 2 * sums if solves else 1  # of columns: of the state, of T and of A
    flops, numbers = 2 * d * columns * blocks, (d + columns) * (1 + results)  # kᵀu
    if results:
        flops += 2 * d * columns + sees_own_step(setup) * TILE * (2 * d + columns)
        numbers += (not solves) * 3 * d * columns / scan_step(setup)  # the state before the segment and T are added
    if solves:
        flops += 2 * TILE * d + (2 * d + TILE) * columns * blocks
    return {"flop": flops, "number": numbers}


def scan_amounts(setup, rank):
    """One rank whose parts occupy nearly all threads goes through the sequence once; else sums of several segments are formed, then results."""
    (parts, _), threads, tokens = scan_parts(setup), setup.threads_per_rank, int(setup.tokens(rank))
    alone, segments = setup.ranks == 1, -(-tokens // segment_tokens(setup))
    turns = -(-parts // threads) * threads
    if alone and 100 * (turns - parts) <= IDLE_PERCENT * turns:
        passes, segments = ((tokens, scan_pass(setup, True, True)), ), 1
    else:
        summed = np.minimum(setup.begin(np.array((rank, rank + 1))), all_summed(setup) * segment_tokens(setup))
        passes = (int(summed[1] - summed[0]), scan_pass(setup, False, True)), (tokens, scan_pass(setup, True, False))
        if alone:
            segments = min(segments, -(-TEAMS_PER_THREAD * threads // parts))
    share = -(-parts * segments // threads) / max(1, segments)  # of the busiest thread, in parts
    found = {unit: share * sum(count * of_token[unit] for count, of_token in passes) for unit in ("flop", "number")}
    if alone:
        for kind in ("segment", "state"):
            unit, amount = composition(setup, kind)
            found[unit] += all_summed(setup) * amount * share / parts
    return found


def state_elements(setup):
    """Of the running states of a batch."""
    parts, columns = scan_parts(setup)
    return parts * columns * setup.head_dim


def node_elements(setup):
    """Of the sums of one segment, or of several: T, and A where that is a matrix."""
    return state_elements(setup) * (2 if setup.architecture in SOLVES else 1)


def composition(setup, left):
    """Unit and amount of putting a "segment" or a "state" before a segment: T ← A T_left + T, and A ← A A_left of a segment."""
    if setup.architecture in SOLVES:
        return "flop", 2 * setup.head_dim * (node_elements(setup) if left == "segment" else state_elements(setup))
    return "number", 3 * state_elements(setup)


def mixed_pairs(setup):
    """Pairs of chunks, in tiles."""
    tile = min(TILE, setup.chunks)
    if setup.causality == "bidirectional":
        return setup.chunks * max(tile, setup.chunks)
    return setup.chunks * (setup.chunks + tile) / 2


def state_blocks(setup):
    """Blocks of all states, and elements in one."""
    per_head = -(-setup.head_dim**2 // STATE_BLOCK)
    return per_head * setup.num_heads, -(-setup.head_dim**2 // per_head)


def part(items, ranks, rank):
    return (rank + 1) * items // ranks - rank * items // ranks


def amounts(setup, rank):
    """phase -> {unit: amount} of the busiest thread of a rank; of one layer, but embedding and final_norm are of the whole forward."""
    phases = setup.traits.phases
    if unknown := sorted({*phases} - {*PHASES}):
        raise NotImplementedError(f"the model has no formula for {unknown[0]}, a phase of {setup.architecture}")
    threads, batch = setup.threads_per_rank, setup.batch
    first, last = int(setup.begin(rank)), int(setup.begin(rank + 1))
    tokens, chunks = batch * (last - first), batch * setup.local_chunks(rank)
    hidden, width, d = setup.hidden_dim, setup.width, setup.head_dim
    rows = tokens / threads

    work = {
        "project": {"flop": 2 * hidden * setup.projections * width * rows, "number": (hidden + setup.projections * width) * rows},
        "finish": {"flop": (2 * hidden * width + 4 * hidden * setup.ff_dim) * rows,
                   "number": (width + 3 * hidden + setup.ff_dim) * rows},
        "embedding": {"number": hidden * tokens / threads},
        "final_norm": {"number": hidden * tokens / threads},
    }
    work["project"]["flop"] += 2 * len(setup.traits.chunk_projections) * hidden**2 * chunks / threads
    if "mixing" in phases:
        state_numbers = hidden * d * chunks / threads
        state_flops = {"flop": 2 * d * hidden * tokens / threads, "number": 2 * hidden * tokens / threads, "state": state_numbers}
        work["states"] = work["retrieval"] = state_flops
        blocks, block = state_blocks(setup)
        count, sharers, _ = dealing(blocks, setup.ranks, rank)
        work["mixing"] = {"flop": 2 * batch * (d + block) * count / sharers * mixed_pairs(setup) / threads,
                          "number": batch * block * (count + count / sharers) * setup.chunks / threads}
    if "within_chunk" in phases:
        work["within_chunk"] = softmax_amounts(setup, batch * seen_keys(setup, last - first) / threads, width, tokens / threads)
    if "attention" in phases:
        if by_heads(setup):
            heads, sharers, _ = dealing(setup.num_heads, setup.ranks, rank)
            work["attention"] = softmax_amounts(setup, batch * seen_keys(setup, setup.length) / sharers / threads, heads * d,
                                                batch * setup.length / sharers / threads)
        else:
            work["attention"] = softmax_amounts(setup, batch * (seen_keys(setup, last) - seen_keys(setup, first)) / threads, width,
                                                tokens / threads)
    if "scan" in phases:
        work["scan"] = scan_amounts(setup, rank)
    return work


# ---- what crosses ranks ---------------------------------------------------------------------------------------------------------------


def by_heads(setup):
    """Whether the heads of all tokens are sent, rather than the keys of earlier tokens."""
    if setup.ranks == 1 or setup.traits.transfer != "keys":
        return False
    return setup.window is None or setup.window > 2 * (setup.length // setup.ranks)


def dealing(items, ranks, rank):
    """Items (heads, or blocks of states) of a rank, the number of ranks that share them, and its place among those. Also for an array of ranks."""
    if ranks <= items:
        return part(items, ranks, rank), 1 + 0 * rank, 0 * rank
    item = ((rank + 1) * items - 1) // ranks
    return 1 + 0 * rank, part(ranks, items, item), rank - item * ranks // items


def dealt(rows, sharers, place, tile=TILE):
    """How many of the first `rows` (queries, or chunks) are dealt, in tiles, to the place-th of the sharers."""
    rest = np.clip(rows % (tile * sharers) - tile * place, 0, tile)
    return rows // (tile * sharers) * tile + rest


def mixing_tile(setup):
    """Chunks that are dealt out together to ranks that share a block of states."""
    return max(1, min(TILE, setup.chunks // (-(-setup.ranks // state_blocks(setup)[0]) * MIXING_ROUNDS)))


def messages_of(numbers):
    """Messages for these numbers of elements, each to or from another rank."""
    return int(np.sum(-(-numbers // MESSAGE_NUMBERS)))


def counted(setup, *lists):
    """Bytes and messages of lists of numbers of elements, each to another rank."""
    numbers = [np.asarray(each, np.int64) for each in lists]
    return setup.number_bytes * sum(int(each.sum()) for each in numbers), sum(messages_of(each) for each in numbers)


def state_numbers(setup, rank, others, width=None):
    """Elements of states that a rank sends to each of the others: those of its chunks, and the mixed ones that go back. width: of what else
    belongs to a chunk and a block.
    """
    blocks, block = state_blocks(setup)
    block = block if width is None else width
    count, sharers, place = dealing(blocks, setup.ranks, rank)

    def mixed_before(owner):
        return dealt(setup.chunks_before(owner), sharers, place, mixing_tile(setup))

    there = dealing(blocks, setup.ranks, others)[0] * setup.local_chunks(rank)
    back = count * (mixed_before(others + 1) - mixed_before(others))
    return setup.batch * block * there, setup.batch * block * back


def traffic(setup, rank):
    """What a rank sends in one layer: transfer -> (bytes, messages). Exact, for sequences without padding."""
    if setup.ranks == 1:
        return {}
    others = np.delete(np.arange(setup.ranks), rank)
    mine, sent = int(setup.tokens(rank)), {}

    def send(transfer, *lists):
        sent[transfer] = counted(setup, *lists)

    if setup.traits.transfer == "chunk_states":
        send("states", *state_numbers(setup, rank, others))
        own = setup.batch * 2 * setup.hidden_dim * setup.local_chunks(rank)
        sent["retrieval_vectors"] = setup.number_bytes * own * (setup.ranks - 1), setup.ranks - 1
    elif by_heads(setup):
        row = setup.batch * setup.head_dim

        def queries(worker, owner):
            heads, sharers, place = dealing(setup.num_heads, setup.ranks, worker)
            return heads * row * (dealt(setup.begin(owner + 1), sharers, place) - dealt(setup.begin(owner), sharers, place))

        send("heads", 2 * row * mine * dealing(setup.num_heads, setup.ranks, others)[0], queries(others, rank), queries(rank, others))
    else:
        halo = halo_rows(setup, rank, others) * setup.batch * 2 * setup.width
        if moves_halo(setup):
            send("halo", halo)
        if setup.traits.transfer == "state" and mine > 0:
            send("state", segment_messages(setup, rank, Scan.of(setup)))
    return sent


def all_summed(setup):
    """Segments that have a sum: all but the last one, behind which nothing comes."""
    return -(-setup.length // segment_tokens(setup)) - 1


@dataclasses.dataclass(frozen=True)
class OwnSegments:
    """The segments of a scan that a rank sums, [begin, end): those whose last tokens it has. They are leaves of a tree over all segments.

    joins_previous, joins_next: its first segment has begun on an earlier rank; its last one, `last`, goes on on a later one.
    """

    begin: int
    end: int
    last: int
    joins_previous: bool
    joins_next: bool

    @classmethod
    def of(cls, setup, rank, mirrored=False):
        """mirrored: segments and tokens are numbered from the last one to the first."""
        size, leaves, tokens = segment_tokens(setup), all_summed(setup), [int(setup.begin(rank)), int(setup.begin(rank + 1))]
        before, behind = 0, setup.length  # of all tokens
        if mirrored:
            behind = (leaves + 1) * size
            before, tokens = behind - setup.length, [behind - tokens[1], behind - tokens[0]]
        begin, end = (min(token // size, leaves) for token in tokens)
        has_tokens = tokens[0] < tokens[1]
        return cls(begin, end if has_tokens else begin, tokens[1] // size, has_tokens and tokens[0] % size > 0 and tokens[0] > before,
                   has_tokens and tokens[1] % size > 0 and tokens[1] < behind)


def summing_rank(setup, segment, mirrored=False):
    if mirrored:  # its last token is the first one of a segment that is numbered as the sequence is
        return setup.rank_of((all_summed(setup) - segment) * segment_tokens(setup) // setup.chunk_size)
    return setup.rank_of(((segment + 1) * segment_tokens(setup) - 1) // setup.chunk_size)


def next_rank(setup, rank, mirrored=False):
    """The next rank that has tokens, in the order of a scan; None behind the last one."""
    border = int(setup.chunks_before(rank)) - 1 if mirrored else int(setup.chunks_before(rank + 1))
    return setup.rank_of(border) if 0 <= border < setup.chunks else None


@dataclasses.dataclass(frozen=True)
class Scan:
    """What a scan sends: elements of the sum of segments, and of a state."""

    node: int
    state: int
    solves: bool  # a sum depends on the state
    mirrored: bool = False  # from the last token to the first

    @classmethod
    def of(cls, setup):
        """That of the forward."""
        return cls(node_elements(setup), state_elements(setup), setup.architecture in SOLVES)


def segment_messages(setup, rank, scan):
    """Elements of each message of a rank with sums or states of segments. Nodes of the tree as in src/parallel/prefix_tree.hpp, by the
    segment that they end before: V(b) is the sum of the lowbit(b) segments before b, S(b) the state before b.
    """
    own, leaves, node, state = OwnSegments.of(setup, rank, scan.mirrored), all_summed(setup), scan.node, scan.state
    sent = []
    if own.joins_next:  # the sum of what it has of that segment, and the state, if they are of use
        sent = [node] * (own.last < leaves or not scan.solves) + [state] * (own.last > 0 or scan.solves)
    for level in range(leaves.bit_length()):  # up: V(b) is the left half of V(b + 2^level) of another rank
        b = own.end >> level << level
        if b >> level & 1 and own.begin < b <= leaves - (1 << level):
            sent.append(node)
    for b in prefixes_for_others(own):  # down: S(b) leads to S(b + 2^level), at most once to a rank
        levels = range((b & -b).bit_length() - 1)
        receivers = {summing_rank(setup, b + (1 << level) - 1, scan.mirrored) for level in levels if own.end < b + (1 << level) <= leaves}
        if b == own.end and not own.joins_next:  # the next rank begins with that segment
            receivers |= {next_rank(setup, rank, scan.mirrored)} - {None}
        sent += [state] * len(receivers)
    return sent


def prefixes_for_others(own):
    """The b of a rank whose S(b) may lead to others': `end` without some of its lowest bits."""
    b = own.end
    while b > own.begin:
        yield b
        b &= b - 1


def first_needed(setup, rank):
    """The first token whose keys a rank needs."""
    begin = setup.begin(rank)
    if setup.window is not None:
        return np.maximum(0, begin - setup.window)
    step = setup.chunk_size if "within_chunk" in setup.traits.phases else TILE
    return begin // step * step


def halo_rows(setup, rank, others):
    """Tokens whose keys a rank sends to each of the others: those that they need before their own."""
    needed = np.where(setup.tokens(others) > 0, first_needed(setup, others), setup.begin(others))
    return np.maximum(0, np.minimum(setup.begin(rank + 1), setup.begin(others)) - np.maximum(setup.begin(rank), needed))


def moves_halo(setup):
    ranks = np.arange(setup.ranks)
    return bool(np.any((setup.tokens(ranks) > 0) & (first_needed(setup, ranks) < setup.begin(ranks))))


def bytes_sent(setup):
    """Of the rank that sends the most, in one forward: transfer -> bytes, and total."""
    of_ranks = [{name: setup.num_layers * sent for name, (sent, _) in traffic(setup, rank).items()} for rank in some_ranks(setup)]
    busiest = max(of_ranks, key=lambda sent: sum(sent.values()))
    return {**busiest, "total": sum(busiest.values())}


def some_ranks(setup):
    if setup.ranks <= MANY_RANKS:
        return range(setup.ranks)
    busiest = (setup.ranks // 2 - 1, setup.ranks // 4 - 1)  # in a scan: the states behind their tokens lead to those of the most ranks
    return sorted({*busiest, *(round(rank) for rank in np.linspace(0, setup.ranks - 1, MANY_RANKS))})


# ---- time -----------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Machine:
    """What the model knows of a machine: the line `machine` that `scaling.py calibrate` writes.

    seconds: phase, or phase.architecture -> {unit: seconds for one of it, on one thread that has the node for itself}. crowding: how many
    times slower a thread is with all cores at work. memory_rate, bandwidth in bytes/s, latency in s per message. processor: model of the CPU.
    """

    seconds: dict
    cores: float
    crowding: float
    memory_rate: float
    latency: float
    bandwidth: float
    precision: str = "float"
    processor: str = ""
    always_crowded: bool = False

    @classmethod
    def of(cls, line):
        return cls(**{field.name: line[field.name] for field in dataclasses.fields(cls) if field.name in line})

    def cluster(self, latency, bandwidth):
        """Any number of such cores, all busy and none shared, and a network between all ranks."""
        return dataclasses.replace(self, latency=latency, bandwidth=bandwidth, always_crowded=True)

    def phase(self, name, architecture):
        """Seconds by unit."""
        found = self.seconds.get(f"{name}.{architecture}") or self.seconds.get(name)
        if found is None:
            raise Failure(BAD_INPUT, f"the machine was calibrated without {name} of {architecture}", "`scaling.py calibrate` measures all architectures")
        return found

    def slowdown(self, busy_threads):
        """How many times longer a thread takes with so many busy on its node: crowding, and shared cores."""
        if self.always_crowded:
            return self.crowding
        crowded = 1 + (self.crowding - 1) * min(1, (busy_threads - 1) / max(1, self.cores - 1))
        return crowded * max(1, busy_threads / self.cores)


def work_seconds(machine, setup, rank):
    """phase -> seconds of a rank with the node to itself, in one layer (embedding, final_norm: in the whole forward)."""
    result = {}
    for phase, units in amounts(setup, rank).items():
        per_unit = machine.phase(phase, setup.architecture)
        result[phase] = sum(amount * per_unit.get(unit, 0) for unit, amount in units.items())
    return result


def exchange_seconds(machine, setup, rank, work):
    """Seconds of one layer in which a rank waits for messages, packs and unpacks. work: work_seconds, slowed down."""
    sent = traffic(setup, rank)
    if not sent:
        return 0
    seconds = {name: machine.latency * messages + size / machine.bandwidth for name, (size, messages) in sent.items()}

    def copied(numbers):
        return 2 * setup.number_bytes * numbers / machine.memory_rate

    tokens = setup.batch * int(setup.tokens(rank))
    if setup.traits.transfer == "chunk_states":
        blocks, block = state_blocks(setup)
        count, sharers, _ = dealing(blocks, setup.ranks, rank)
        own = 2 * count if sharers == 1 else 1 + blocks  # the rank's own; mixed rows of a shared block are put in their places
        there, back = (machine.latency * messages_of(numbers) + setup.number_bytes * int(numbers.sum()) / machine.bandwidth
                       for numbers in state_numbers(setup, rank, np.delete(np.arange(setup.ranks), rank)))
        hiding = work["within_chunk"] / 2
        waiting = max(0, there + seconds["retrieval_vectors"] - hiding) + max(0, back - hiding)
        return waiting + copied(own * block * setup.batch * setup.local_chunks(rank))
    if "heads" in sent:
        # A quarter are results, of which those for the last rank are waited for; the others go back during the attention.
        results, before_last = seconds["heads"] / 4, 1 - 1 / setup.ranks
        hidden = min(results, work.get("attention", 0)) * before_last
        return seconds["heads"] - hidden + copied(4 * tokens * setup.width)
    halo = halo_seconds(machine, setup, rank)
    packing = copied(2 * tokens * setup.width) if "halo" in sent else 0
    if setup.traits.transfer == "keys":
        seen_alone = max(0, 1 - setup.window * setup.batch / max(1, tokens))
        return packing + max(0, halo - work["attention"] * seen_alone)
    return packing + halo + states_seconds(machine, setup, rank, work["scan"])


def halo_seconds(machine, setup, rank):
    """Of the keys that a rank waits for."""
    begin, needed = int(setup.begin(rank)), int(first_needed(setup, rank))
    if setup.tokens(rank) == 0 or needed == begin:
        return 0
    size = setup.number_bytes * setup.batch * 2 * setup.width * (begin - needed)
    senders = int(np.sum((setup.begin(np.arange(1, rank + 1)) > needed) & (setup.tokens(np.arange(rank)) > 0)))
    return machine.latency * senders + size / machine.bandwidth


def states_seconds(machine, setup, rank, scan):
    """Until a rank has the states before its segments. scan: seconds of its passes over its tokens, sums and results."""
    if setup.tokens(rank) == 0:
        return 0
    own, threads = OwnSegments.of(setup, rank), setup.threads_per_rank
    seconds_of = {"flop": scan / scan_amounts(setup, rank)["flop"],
                  "number": machine.slowdown(setup.ranks * threads) * setup.number_bytes / machine.memory_rate}
    teams = setup.batch * setup.num_heads if setup.architecture in SOLVES else scan_parts(setup)[0]

    def composed(left, times):
        unit, amount = composition(setup, left)
        return -(-times * teams // threads) * amount / teams * seconds_of[unit]

    def moved(numbers):
        return machine.latency * messages_of(numbers) + setup.number_bytes * numbers / machine.bandwidth

    messages = moved(node_elements(setup)) + moved(state_elements(setup))
    levels = min(rank, own.begin).bit_length()  # of the tree, that lead across ranks: once up and once down
    tree = composed("segment", own.end - own.begin) + composed("state", own.end - own.begin)
    tree += levels * (messages + composed("segment", 1) + composed("state", 1))
    if not own.joins_previous:
        return tree
    # Ranks that lie within one segment go on with it one after the other.
    earlier, segment = np.arange(rank), int(setup.begin(rank)) // segment_tokens(setup) * segment_tokens(setup)
    inside = int(np.sum((setup.begin(earlier) > segment) & (setup.tokens(earlier) > 0)))
    if not machine.always_crowded:
        inside = min(inside, max(1, int(machine.cores / threads)) - 1)
    return tree + messages + inside * (scan + messages)


def predict(machine, setup):
    """seconds: of a forward; seconds_by_phase and rank: of the slowest rank; bytes_sent, messages_sent: of the busiest."""
    slowest = max((rank_seconds(machine, setup, rank) for rank in some_ranks(setup)), key=lambda found: found["seconds"])
    messages = max(sum(count for _, count in traffic(setup, rank).values()) for rank in some_ranks(setup))
    return {**slowest, "bytes_sent": bytes_sent(setup), "messages_sent": setup.num_layers * messages}


def rank_seconds(machine, setup, rank):
    slow = machine.slowdown(setup.ranks * setup.threads_per_rank)
    work = {phase: slow * seconds for phase, seconds in work_seconds(machine, setup, rank).items()}
    once = {phase: work.pop(phase) for phase in ("embedding", "final_norm")}
    work["exchange"] = exchange_seconds(machine, setup, rank, work)
    work["agreement"] = AGREEMENTS * machine.latency * math.ceil(math.log2(setup.ranks))
    phases = {**{phase: setup.num_layers * seconds for phase, seconds in work.items()}, **once}
    return {"rank": rank, "seconds": sum(phases.values()), "seconds_by_phase": phases}


def best_chunk_size(machine, setup, sizes):
    """sizes -> (the fastest of them, {size: seconds})."""
    seconds = {size: predict(machine, dataclasses.replace(setup, chunk_size=size))["seconds"] for size in sizes}
    return min(seconds, key=seconds.get), seconds


def rule_of_thumb(setup):
    """B = (L d)^(1/3), as the nearest power of two."""
    return 2 ** round(math.log2((setup.length * setup.head_dim) ** (1 / 3)))
