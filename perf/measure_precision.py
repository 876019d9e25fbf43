#!/usr/bin/env python3
"""How far hidden states in float and in bfloat16 are from those in double, beside PyTorch's, for all architectures.

    perf/measure_precision.py
    perf/measure_precision.py --architectures bsbr,linear --tokens 65536

Needs the built programs and a Python with PyTorch, h5py and NumPy, such as the one that perf/compare_with_peers.py
makes in build/peers. Models have random weights, width 512, 8 heads (gau one), 4 layers unless --layers says otherwise,
a feed-forward layer of 2,048, chunks of 128 and a vocabulary of 256; tokens are random. An error is the root mean
square of the differences between hidden states, which the final norm gives a variance of about 1; the largest
difference stands beside it in brackets.

PyTorch computes the same function with the same weights, as its error in float shows. In bfloat16 all of its weights
and activations are bfloat16, as .to(torch.bfloat16) makes them; only delta_net keeps its state in float, and solves its
systems of equations there, which PyTorch cannot do in bfloat16. Exit codes are those of docs/programs.md.
"""
import os
import sys
import tempfile

import compare_with_peers as peers
from compare_with_peers import SIZES, Failure, Parser, count

PROGRAM = "measure_precision.py"
ARCHITECTURES = ("bsbr", "standard", "linear", "delta_net", "sliding_window", "hopfield", "gau")
TITLES = ("float", "PyTorch, float", "bfloat16", "PyTorch, bfloat16")
ROWS = 4096  # of hidden states at a time
TILE = 64  # tokens that PyTorch takes at once through linear and delta_net


def main(arguments):
    return peers.exit_code(PROGRAM, lambda: measure(parse(arguments)))


def parse(arguments):
    parser = Parser(prog=PROGRAM, description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--programs", default="build/release/apps", metavar="DIR", help="folder of the programs; default %(default)s")
    add("--architectures", type=architectures, default=ARCHITECTURES, metavar="A,B,...", help="default all")
    add("--tokens", type=count, default=1024, metavar="N", help="default %(default)s")
    add("--layers", type=count, default=SIZES["num_layers"], metavar="N", help="default %(default)s")
    add("--threads", type=count, default=peers.cores(), metavar="N", help="of both; default all cores, %(default)s")
    return parser.parse_args(arguments)


def architectures(text):
    return peers.some_of(ARCHITECTURES, text)


def measure(options):
    os.environ.update(OMP_NUM_THREADS=str(options.threads), OMP_PROC_BIND="false")
    peers.load_libraries(options.threads)
    layers = f"{options.layers} {peers.plural('layer', options.layers)}"
    print(f"{options.tokens:,} tokens, {layers}, PyTorch {peers.torch.__version__}")
    print("root mean square of the differences from double (the largest one); "
          "seconds of bsbr_forward in float ÷ in bfloat16")
    print_row("", TITLES, "seconds")
    with tempfile.TemporaryDirectory() as folder:
        programs = peers.Programs(folder, options)
        ids = peers.random_ids(2, options.tokens)
        for architecture in options.architectures:
            errors, seconds = measure_one(programs, architecture, ids, options.layers)
            print_row(architecture, [f"{error:.1e} ({largest:.1e})" for error, largest in errors], f"{seconds:.2f}")


def print_row(name, columns, last):
    print("".join([f"{name:16}", *(f"{column:20}" for column in columns), last]), flush=True)


def measure_one(programs, architecture, ids, layers):
    """The errors that TITLES names, and seconds in float by those in bfloat16."""
    model = programs.file("model.h5")
    sizes = {**SIZES, "num_layers": layers, "num_heads": 1 if architecture == "gau" else SIZES["num_heads"]}
    configuration = [word for name, value in sizes.items() for word in ("--" + name.replace("_", "-"), value)]
    programs.run("bsbr_init", "--output", model, "--architecture", architecture, "--seed", 1, *configuration)
    errors, seconds, exact = [], {}, programs.file("exact.h5")
    forward(programs, model, ids, "double", exact)
    for precision in peers.PRECISIONS:
        result = programs.file("result.h5")
        seconds[precision] = forward(programs, model, ids, precision, result)
        with peers.h5py.File(result) as file:
            errors.append(difference(exact, file["hidden_states"][0]))
        errors.append(difference(exact, forward_of_pytorch(architecture, model, ids, precision)))
        if precision == "float" and not errors[-1][0] < peers.TOLERANCES["float"]:  # NaN, too
            raise Failure(peers.BUG, f"{architecture}: PyTorch is off by {errors[-1][0]:.1e} in float: another function")
    return errors, seconds["float"] / seconds["bfloat16"]


def forward(programs, model, ids, precision, result):
    """Writes the hidden states, and tells the seconds."""
    summary = programs.forward(model, "--input", programs.write(ids), "--precision", precision, "--output", result)
    return summary["seconds"]


def difference(exact, states):
    """states [tokens, hidden] -> root mean square and largest of their differences from those of a result file."""
    squares, largest = 0.0, 0.0
    with peers.h5py.File(exact) as file:
        for first in range(0, len(states), ROWS):
            rows = peers.np.abs(file["hidden_states"][0, first:first + ROWS] - states[first:first + ROWS])
            squares, largest = squares + (rows ** 2).sum(), max(largest, rows.max())
    return (squares / states.size) ** 0.5, largest


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def forward_of_pytorch(architecture, model, ids, precision):
    """Hidden states [tokens, hidden] in NumPy's float32."""
    config, weights = peers.read_model(model, precision)
    kinds = dict(bsbr=peers.Bsbr, linear=Linear, delta_net=DeltaNet, sliding_window=SlidingWindow, gau=Gau)
    work = peers.without_gradients(kinds.get(architecture, peers.Transformer)(config, weights).forward)
    return work(peers.torch.from_numpy(ids)).float().numpy()


class Chunked(peers.Transformer):
    """A model whose attention is formed chunk by chunk, all of them at once where that is possible."""

    def __init__(self, config, weights):
        super().__init__(config, weights)
        self.config, self.chunk = config, TILE

    def attention(self, index, x):
        """x [tokens, hidden] -> the same"""
        functional, chunks = peers.torch.nn.functional, -(-len(x) // self.chunk)
        # The last chunk is filled up with zeros, which no earlier token sees.
        qkv = functional.pad(functional.linear(x, *self.qkv[index]), (0, 0, 0, chunks * self.chunk - len(x)))
        qkv = qkv.view(chunks, self.chunk, 3, self.heads, -1)
        heads = self.mix(*qkv.permute(2, 3, 0, 1, 4))  # each [heads, chunks, chunk, head_dim]
        heads = heads.permute(1, 2, 0, 3).reshape(chunks * self.chunk, -1)[:len(x)]
        return self.linear(f"layers.{index}.attention.out_proj", self.gated(index, x, heads))

    def gated(self, index, x, heads):
        return heads

    @staticmethod
    def earlier_states(k, v):
        """The sum of kᵀv over all chunks before each one: [heads, chunks, head_dim, head_dim]"""
        states = (k.transpose(-1, -2) @ v).cumsum(1)[:, :-1]
        return peers.torch.nn.functional.pad(states, (0, 0, 0, 0, 1, 0))


class Linear(Chunked):
    """linear without a feature map."""

    def mix(self, q, k, v):
        return (q @ k.transpose(-1, -2)).tril() @ v + q @ self.earlier_states(k, v)


class Gau(Chunked):
    def __init__(self, config, weights):
        super().__init__(config, weights)
        self.chunk = config["chunk_size"]

    def mix(self, q, k, v):
        within = peers.torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        return within + q @ self.earlier_states(k, v)

    def gated(self, index, x, heads):
        return peers.torch.sigmoid(self.linear(f"layers.{index}.attention.gate_proj", x)) * heads


class DeltaNet(Chunked):
    def mix(self, q, k, v):
        torch, beta = peers.torch, self.config["beta"]
        q, k = (torch.nn.functional.normalize(part, dim=-1, eps=1e-12) for part in (q, k))
        # What a token adds to the state depends on the tokens before it in the chunk: a triangular system of equations.
        unit = torch.eye(self.chunk)
        systems = unit + beta * (k @ k.transpose(-1, -2)).float().tril(-1)
        state, results = torch.zeros(self.heads, k.shape[-1], k.shape[-1]), []
        for i in range(k.shape[1]):
            known = beta * (v[:, i].float() - k[:, i].float() @ state)
            added = torch.linalg.solve_triangular(systems[:, i], known, upper=False, unitriangular=True).to(k.dtype)
            results.append((q[:, i] @ k[:, i].transpose(-1, -2)).tril() @ added + q[:, i] @ state.to(k.dtype))
            state = state + (k[:, i].transpose(-1, -2) @ added).float()
        return torch.stack(results, 1)


class SlidingWindow(Chunked):
    """A chunk is as long as the window, so that its queries see keys of their own chunk and of the one before."""

    def __init__(self, config, weights):
        super().__init__(config, weights)
        self.chunk = config["window_size"]

    def mix(self, q, k, v):
        torch, chunks = peers.torch, q.shape[1]
        k, v = (torch.cat([torch.nn.functional.pad(part[:, :-1], (0, 0, 0, 0, 1, 0)), part], 2) for part in (k, v))
        # How far a key is behind a query, [chunk, 2 chunk]
        back = torch.arange(self.chunk)[:, None] - torch.arange(-self.chunk, self.chunk)
        seen = ((back >= 0) & (back <= self.chunk)).repeat(chunks, 1, 1)
        seen[0, :, :self.chunk] = False  # there is no chunk before the first one
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=self.scale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
