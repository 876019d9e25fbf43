#!/usr/bin/env python3
"""How fast bsbr_generate is on this machine: against the rate of reading memory, late in a sequence, in batches, and against PyTorch.

    perf/measure_generation.py
    perf/measure_generation.py --measurements decode,batch

Needs the built programs and a Python with PyTorch, h5py and numpy, such as the one that perf/compare_with_peers.py makes in build/peers.
All models have width 512, 8 heads, 4 layers, a feed-forward layer of 2,048, chunks of 128 and a vocabulary of 256 bytes; all but one
measurement are of float32.

    decode    bytes of weights that a token needs, by its time, against the rate of adding up an array that is larger than all caches
    late      time of a token after --late tokens by that after 1,000, both rounded down to whole chunks, from streams that bsbr_evaluate has
              saved: 512 tokens, four chunks
    batch     tokens a second of 16 sequences against one
    bfloat16  tokens a second with --precision bfloat16 against float
    pieces    bsbr_evaluate of 65,536 tokens in pieces of 4,096 against all at once
    peer      standard: 1,000 tokens after 8,192, against the same model in PyTorch with a cache of keys and values. Both are greedy, and
              must choose the same tokens

A round is one run of each, since the speed of a machine drifts; medians of the rounds' ratios are told. Exit codes are those of
docs/programs.md; 70 also where tokens differ.
"""
import argparse
import json
import os
import statistics
import sys
import tempfile
import time

import compare_with_peers as peers
from compare_with_peers import BUG, SIZES, USAGE, Failure, Parser, count

PROGRAM = "measure_generation.py"
MEASUREMENTS = ("decode", "late", "batch", "bfloat16", "pieces", "peer")
ARCHITECTURES = ("bsbr", "linear", "delta_net", "gau", "sliding_window")  # whose tokens do not take longer and longer
READ_BYTES = 1 << 30
CHUNK = 128
EARLY, TOKENS = 1000, 4 * CHUNK


def main(arguments):
    return peers.exit_code(PROGRAM, lambda: measure(parse(arguments)))


def parse(arguments):
    parser = Parser(prog=PROGRAM, description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--programs", default="build/release/apps", metavar="DIR", help="folder of the programs; default %(default)s")
    add("--measurements", type=chosen, default=MEASUREMENTS, metavar="A,B,...", help=f"which of {','.join(MEASUREMENTS)}; default all")
    add("--late", type=count, default=1_000_000, metavar="N", help="tokens of the long prompt; default 1000000")
    add("--repeat", type=count, default=5, metavar="N", help="rounds; default %(default)s")
    add("--threads", type=count, default=peers.cores(), metavar="N", help="of both; default all cores, %(default)s")
    add("--json", metavar="FILE", help="the raw numbers")
    options = parser.parse_args(arguments)
    options.program = "bsbr_generate"
    for program in ("bsbr_init", "bsbr_evaluate", options.program):
        if not os.access(os.path.join(options.programs, program), os.X_OK):
            raise Failure(USAGE, f"argument --programs: {options.programs} has no {program}",
                          "cmake --preset release && cmake --build --preset release makes build/release/apps")
    return options


def chosen(text):
    for name in text.split(","):
        if name not in MEASUREMENTS:
            raise argparse.ArgumentTypeError(f"{name!r}, must be of {', '.join(MEASUREMENTS)}")
    return text.split(",")


def measure(options):
    os.environ.update(OMP_NUM_THREADS=str(options.threads), OMP_PROC_BIND="false")
    peers.load_libraries(options.threads)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(folder, options)
        for name in options.measurements:
            print(name, flush=True)
            results[name] = globals()[f"measure_{name}"](programs, options)
    if options.json is not None:
        peers.write_json(options.json, dict(format="bsbr-generation-speed", format_version=1, bsbr=programs.about, threads=options.threads,
                                            torch=peers.torch.__version__, config=SIZES, results=results,
                                            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())))


class Programs(peers.Programs):
    """The programs, with models that have a head."""

    def model(self, architecture):
        path = self.file(architecture + ".h5")
        if os.path.exists(path):
            return path
        return self.make_model(architecture, "--head", "separate")

    def summary(self, program, model, *arguments):
        summary = json.loads(self.run(program, "--model", model, *arguments, "--json", "-"))
        if summary["ranks"] * summary["threads_per_rank"] != self.threads:
            raise Failure(USAGE, f"{program} ran with {summary['threads_per_rank']} threads, must be {self.threads} as in PyTorch")
        self.about = {name: summary[name] for name in ("version", "git_commit", "kokkos_version")}
        return summary

    def generate(self, architecture, prompt, tokens, *how):
        """The summary of a run after a prompt, whose text is in generated.txt."""
        return self.go_on(architecture, tokens, "--input", self.text(prompt), *how)

    def go_on(self, architecture, tokens, *how):
        """The same after whatever `how` names."""
        return self.summary("bsbr_generate", self.model(architecture), "--tokens", tokens, "--temperature", 0,
                            "--output", self.file("generated.txt"), *how)

    def text(self, tokens):
        path = self.file(f"{tokens}.txt")
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.write(peers.random_ids(3, tokens).astype("uint8").tobytes())
        return path

    def token_seconds(self, architecture, prompt, tokens, *how):
        """Of one step, which takes a token of each sequence."""
        return self.generate(architecture, prompt, tokens, *how)["decode_seconds"] / tokens

    def token_seconds_after(self, architecture, tokens):
        """The same of one sequence, from a saved stream."""
        stream = self.file(f"{architecture}.{tokens}.h5")
        if not os.path.exists(stream):
            self.summary("bsbr_evaluate", self.model(architecture), "--input", self.text(tokens), "--pieces", 16384, "--state-out", stream)
        return self.go_on(architecture, TOKENS, "--state-in", stream)["decode_seconds"] / TOKENS


def rounds(options, what, one):
    """The median of one() in all rounds."""
    ratios = []
    for _ in range(options.repeat):
        ratios.append(one())
        print(f"  {what}: {ratios[-1]:.3f}", flush=True)
    median = statistics.median(ratios)
    print(f"  {what}: median {median:.3f}, {min(ratios):.3f} to {max(ratios):.3f}", flush=True)
    return dict(median=median, ratios=ratios)


def read_rate():
    """Bytes a second of adding up an array, the best of three times."""
    array = peers.torch.ones(READ_BYTES // 4)
    return READ_BYTES / min(peers.seconds(lambda numbers: numbers.sum(), array) for _ in range(3))


def weight_bytes(model):
    """Of all weights but the embedding, of which a token needs one row."""
    _, weights = peers.read_model(model)
    return sum(weight.numel() * weight.element_size() for name, weight in weights.items() if name != "embedding.weight")


def measure_decode(programs, options):
    return {architecture: rounds(options, f"{architecture}: rate of reading weights by that of reading an array",
                                 lambda: weight_bytes(programs.model(architecture)) / programs.token_seconds(architecture, EARLY, TOKENS)
                                 / read_rate())
            for architecture in ("bsbr", "standard", "linear")}


def measure_late(programs, options):
    late, early = (max(CHUNK, tokens // CHUNK * CHUNK) for tokens in (options.late, EARLY))
    return {architecture: rounds(options, f"{architecture}: a token after {late:,} by one after {early:,}",
                                 lambda: programs.token_seconds_after(architecture, late)
                                 / programs.token_seconds_after(architecture, early))
            for architecture in ARCHITECTURES}


def measure_batch(programs, options):
    return {architecture: rounds(options, f"{architecture}: tokens a second of 16 sequences by those of one",
                                 lambda: 16 * programs.token_seconds(architecture, EARLY, TOKENS)
                                 / programs.token_seconds(architecture, EARLY, TOKENS, "--batch", 16))
            for architecture in ("bsbr", "standard", "linear")}


def measure_bfloat16(programs, options):
    return {architecture: rounds(options, f"{architecture}: tokens a second in bfloat16 by those in float",
                                 lambda: programs.token_seconds(architecture, EARLY, TOKENS)
                                 / programs.token_seconds(architecture, EARLY, TOKENS, "--precision", "bfloat16"))
            for architecture in ("bsbr", "standard", "linear")}


def measure_pieces(programs, options):
    def evaluate(*how):
        return programs.summary("bsbr_evaluate", model, "--input", programs.text(65536), *how)["seconds"]

    results = {}
    for architecture in ("bsbr", "linear"):
        model = programs.model(architecture)
        results[architecture] = rounds(options, f"{architecture}: pieces by the whole", lambda: evaluate("--pieces", 4096) / evaluate())
    return results


def measure_peer(programs, options):
    prompt, tokens = 8192, 1000
    theirs = Generation(*peers.read_model(programs.model("standard")))
    ids = peers.torch.from_numpy(peers.random_ids(3, prompt).astype("uint8").astype("int64"))

    def one():
        ours = programs.generate("standard", prompt, tokens)["decode_seconds"]
        start = theirs.prefill(ids, tokens)
        seconds, text = theirs.decode(start, tokens)
        with open(programs.file("generated.txt"), "rb") as file:
            if (mine := file.read()) != text:
                same = next(i for i, pair in enumerate(zip(mine, text)) if pair[0] != pair[1])
                raise Failure(BUG, f"both have chosen other tokens, from token {same} on: not compared")
        return seconds / ours

    return rounds(options, "standard: seconds of PyTorch by ours", one)


class Generation(peers.Transformer):
    """The transformer, token by token, with a cache of keys and values."""

    def prefill(self, ids, room):
        """Reads ids [tokens]; the hidden state of the last one, [hidden]."""
        torch, length = peers.torch, len(ids)
        self.table = self.positions(length + room)
        shape = (self.layers, 2, 1, self.heads, length + room, self.hidden // self.heads)
        self.cache, self.length = torch.empty(shape), 0
        with torch.inference_mode():
            return self.step(ids)[-1]

    def decode(self, state, tokens):
        """Seconds, and bytes: the most probable one each time."""
        torch, text = peers.torch, bytearray()
        start = time.perf_counter()
        with torch.inference_mode():
            for i in range(tokens):
                text.append(int(torch.argmax(torch.nn.functional.linear(state, self.weights["lm_head.weight"]))))
                if i + 1 < tokens:
                    state = self.step(torch.tensor(text[-1:], dtype=torch.int64))[-1]
        return time.perf_counter() - start, bytes(text)

    def step(self, ids):
        """ids [tokens], the next ones -> hidden states [tokens, hidden]"""
        gelu, torch = peers.torch.nn.functional.gelu, peers.torch
        x = torch.nn.functional.embedding(ids, self.weights["embedding.weight"]) + self.table[self.length:self.length + len(ids)]
        for i in range(self.layers):
            layer = f"layers.{i}."
            x = x + self.attend(i, self.norm(layer + "layer_norm1", x))
            x = x + self.linear(layer + "ff.3", gelu(self.linear(layer + "ff.0", self.norm(layer + "layer_norm2", x))))
        self.length += len(ids)
        return self.norm("layer_norm", x)

    def attend(self, index, x):
        """x [tokens, hidden] -> the same; the first tokens, or one."""
        torch, end = peers.torch, self.length + len(x)
        q, k, v = torch.nn.functional.linear(x, *self.qkv[index]).view(len(x), 3, self.heads, -1).permute(1, 2, 0, 3)
        keys, values = self.cache[index, :, 0]  # [heads, room, head_dim]
        keys[:, self.length:end], values[:, self.length:end] = k, v
        heads = torch.nn.functional.scaled_dot_product_attention(q[None], keys[None, :, :end], values[None, :, :end],
                                                                 is_causal=len(x) > 1, scale=self.scale)
        return self.linear(f"layers.{index}.attention.out_proj", heads[0].transpose(0, 1).reshape(len(x), -1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
