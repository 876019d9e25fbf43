#!/usr/bin/env python3
"""How long PyTorch takes on a GPU for a forward of the model that perf/compare_with_peers.py compares with: a pre-norm transformer with
torch.nn.functional.scaled_dot_product_attention(is_causal=True), in float32 with random weights. Needs PyTorch and nothing else.

    perf/peer_on_gpu.py --hidden-dim 512,1024 --tokens 16384,65536

Four layers, heads of 64, a feed-forward of four times the width, one sequence. Each time is that of one forward from an idle GPU to an idle
GPU, after one to warm up. With --tf32 products may round their operands to ten bits; by default they do not. Prints JSON; exit code 77:
there is no PyTorch, or it finds no GPU.
"""
import argparse
import json
import statistics
import sys
import time

import compare_with_peers as peers

LAYERS, HEAD_DIM, VOCABULARY, TEMPERATURE = 4, 64, 256, 1


def main():
    options = parse()
    try:
        import torch
    except (ImportError, OSError) as error:
        return skip(f"{sys.executable} has no PyTorch: {error}")
    if options.device == "cuda" and not torch.cuda.is_available():
        return skip(f"PyTorch {torch.__version__} finds no GPU")
    peers.torch = torch
    torch.backends.cuda.matmul.allow_tf32 = options.tf32
    results = [measure(hidden, tokens, options) for hidden in options.hidden_dim for tokens in options.tokens]
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    json.dump(dict(format="bsbr-peer-on-gpu", torch=torch.__version__, cuda=torch.version.cuda, device=name, tf32=options.tf32, layers=LAYERS,
                   head_dim=HEAD_DIM, results=results), sys.stdout, indent=2)
    print()
    return 0


def parse():
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--hidden-dim", type=numbers, default=[512, 1024], metavar="N,N,...", help="default 512,1024")
    parser.add_argument("--tokens", type=numbers, default=[16384, 65536], metavar="N,N,...", help="default 16384,65536")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="forwards that are timed; default %(default)s")
    parser.add_argument("--tf32", action="store_true", help="products of floats may round to TF32")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default %(default)s")
    return parser.parse_args()


def skip(why):
    print(f"peer_on_gpu.py: {why}", file=sys.stderr)
    return 77


def measure(hidden, tokens, options):
    """The seconds of each forward of one size."""
    torch = peers.torch
    config = dict(num_heads=hidden // HEAD_DIM, num_layers=LAYERS, hidden_dim=hidden, temperature=TEMPERATURE)
    forward = peers.Transformer(config, random_weights(hidden, options.device)).forward
    ids = torch.randint(VOCABULARY, (tokens,), device=options.device)
    seconds = []
    with torch.inference_mode():
        for _ in range(options.repeat + 1):
            start = time.perf_counter()
            forward(ids)
            if options.device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return dict(hidden_dim=hidden, tokens=tokens, seconds=seconds[1:], median_seconds=statistics.median(seconds[1:]))


def random_weights(hidden, device):
    """Those of a model file, by name."""
    torch = peers.torch
    shapes = {"embedding.weight": (VOCABULARY, hidden), "layer_norm.weight": (hidden,), "layer_norm.bias": (hidden,)}
    for layer in (f"layers.{i}." for i in range(LAYERS)):
        for norm in ("layer_norm1", "layer_norm2"):
            shapes.update({f"{layer}{norm}.weight": (hidden,), f"{layer}{norm}.bias": (hidden,)})
        products = {f"attention.{name}_proj": (hidden, hidden) for name in ("q", "k", "v", "out")}
        for name, shape in dict(products, **{"ff.0": (4 * hidden, hidden), "ff.3": (hidden, 4 * hidden)}).items():
            shapes.update({f"{layer}{name}.weight": shape, f"{layer}{name}.bias": shape[:1]})
    return {name: torch.randn(shape, device=device) / shape[-1] ** 0.5 for name, shape in shapes.items()}


if __name__ == "__main__":
    sys.exit(main())
