"""bsbr: softmax attention within the chunk, and retrieval from a weighted mix of the states of other chunks.

docs/mathematics.md, "BSBR", says what is computed:

    local_t = Σ_s softmax_s(q_t·k_s / √d) v_s over the tokens s that M_in allows
    F_j = Σ_s k_sᵀ v_s over the tokens s of chunk j; with compression compress_proj(F_j)
    w_ij = softmax_j(r_i·h_j / √d) over the chunks j that M_out allows
    G_i = Σ_j w_ij F_j; with compression decompress_proj(Σ_j w_ij F_j)
    o_t = local_t + q_t G_{c(t)}

A file has the output of each of the four causalities.
"""
import math

import numpy as np

from generator.architecture import Architecture, chunks_of, only_real, softmax_attention, state_of
from generator.cases import Case

CAUSALITIES = ("causal", "block_causal", "bidirectional", "reference")


def tokens_seen(causality, t, chunk):
    """M_in: the tokens of its chunk that token t sees."""
    return {"causal": range(chunk.start, t + 1), "block_causal": chunk, "bidirectional": chunk,
            "reference": range(t, chunk.stop)}[causality]


def chunks_seen(causality, i, chunks):
    """M_out: the chunks that chunk i retrieves from, of so many."""
    return {"causal": range(i), "block_causal": range(i + 1), "bidirectional": range(chunks),
            "reference": range(i, chunks)}[causality]


def local(config, head, real):
    """local_t, [L, d]"""
    result = np.zeros_like(head.q)
    scale = 1 / math.sqrt(head.q.shape[1])
    for chunk in chunks_of(len(result), config["chunk_size"]):
        # In the reference mode the tokens that a ragged chunk lacks are keys with score 0 and value 0.
        absent = config["chunk_size"] - len(chunk) if config["causality"] == "reference" else 0
        for t in chunk:
            seen = only_real(tokens_seen(config["causality"], t, chunk), real)
            result[t] = softmax_attention(head.q[t], head.k, head.v, seen, scale, absent)
    return result


def chunk_states(config, head, real):
    """F_j flattened row by row, compressed if the configuration says so: [C, d² or S]"""
    chunks = chunks_of(len(real), config["chunk_size"])
    states = np.array([state_of(head.k, head.v, only_real(chunk, real)).flatten() for chunk in chunks])
    return head.linear("compress_proj", states) if config["compression_factor"] > 0 else states


def retrieved(config, head, real):
    """G_i of each chunk, [C, d, d]"""
    chunks, head_dim = chunks_of(len(real), config["chunk_size"]), head.q.shape[1]
    states = chunk_states(config, head, real)
    ends = [max(only_real(chunk, real), default=None) for chunk in chunks]  # the last real token of each chunk, or None
    retrieval_keys = np.array([head.meta_h[end] if end is not None else np.zeros(head_dim) for end in ends])
    result = np.zeros((len(chunks), head_dim, head_dim))
    for i in range(len(chunks)):
        # r_i: from chunk i − 1 (causal) or i, or else the nearest earlier chunk with a real token.
        sources = [end for end in ends[:i if config["causality"] == "causal" else i + 1] if end is not None]
        seen = [j for j in chunks_seen(config["causality"], i, len(chunks)) if ends[j] is not None]
        if sources and seen:
            mixed = softmax_attention(head.meta_r[sources[-1]], retrieval_keys, states, seen, 1 / math.sqrt(head_dim))
            if config["compression_factor"] > 0:
                mixed = head.linear("decompress_proj", mixed)
            result[i] = mixed.reshape(head_dim, head_dim)
    return result


def attention(config, head):
    real = np.ones_like(head.real) if config["causality"] == "reference" else head.real  # which ignores the mask
    result = local(config, head, real)
    states = retrieved(config, head, real)
    for t in range(len(result)):
        result[t] += head.q[t] @ states[t // config["chunk_size"]]
    return result


def compression_layers(config):
    """compress_proj: d² → S, decompress_proj: S → d², with S = ⌊D / compression_factor⌋"""
    if config["compression_factor"] == 0:
        return {}
    whole = (config["hidden_dim"] // config["num_heads"]) ** 2
    compressed = config["hidden_dim"] // config["compression_factor"]
    return {"compress_proj": (whole, compressed), "decompress_proj": (compressed, whole)}


def case(name, notes, *, compression_factor=0, **arguments):
    """A case whose notes name the compression."""
    if compression_factor > 0:
        notes += f"; compression {compression_factor}"
    return Case(name, notes, compression_factor=compression_factor, causality="causal", **arguments)


GAP_NOTES = "whole chunks masked in the middle, and ends of chunks"

ARCHITECTURE = Architecture(
    attention,
    [case("multiple", "length a multiple of the chunk", length=32, vocab_size=41, hidden_dim=24, ff_dim=31),
     case("ragged", "ragged tail", length=19, num_layers=2, layers=True),
     case("tail_one", "tail of one token", length=25, hidden_dim=20, num_heads=4),
     case("short", "shorter than one chunk: nothing to retrieve when causal", length=5, batch=2, layers=True,
          num_heads=3, chunk_size=16),
     case("chunk1", "chunks of one token", length=9, layers=True, num_heads=12, chunk_size=1),
     case("one_token", "one token", length=1, batch=2, layers=True, chunk_size=4, compression_factor=2),
     case("one_head", "one head; ragged tail", length=22, layers=True, num_heads=1, chunk_size=5),
     case("c2_multiple", "length a multiple of the chunk", length=24, hidden_dim=16, num_layers=2, num_heads=4,
          chunk_size=6, compression_factor=2),
     case("c2_ragged", "ragged tail", length=31, vocab_size=29, hidden_dim=20, num_heads=4, chunk_size=7,
          compression_factor=2),
     case("c4_ragged", "hidden size that 4 does not divide; ragged tail", length=21, hidden_dim=10, num_layers=2,
          compression_factor=4),
     case("c4_tail_one", "tail of one token", length=17, hidden_dim=18, num_heads=3, chunk_size=4,
          compression_factor=4),
     case("mask_holes", "mask with holes, some at the end of a chunk", length=26, batch=2, masks="holes",
          num_layers=2, chunk_size=5),
     case("mask_right", "padding on the right that covers a whole chunk", length=23, batch=2, masks="right",
          num_layers=2, chunk_size=6, compression_factor=2),
     case("mask_left", "padding on the left that covers whole chunks", length=27, batch=2, masks="left",
          num_layers=2, num_heads=4, chunk_size=5, compression_factor=2),
     case("mask_gap", GAP_NOTES, length=26, batch=2, masks="gap", chunk_size=4),
     case("mask_gap_c4", GAP_NOTES, length=23, masks="gap", num_layers=2, chunk_size=3, compression_factor=4),
     case("mask_row", "first row of the batch fully masked", length=13, batch=2, masks="all,holes", layers=True,
          hidden_dim=10, chunk_size=4, compression_factor=2),
     case("long", "nine chunks with a ragged tail", length=107, chunk_size=12)],
    projections={"q": 2, "k": 2, "v": 1, "meta_r": 3, "meta_h": 3},
    other_layers=compression_layers,
    outputs={causality: {"causality": causality} for causality in CAUSALITIES})
