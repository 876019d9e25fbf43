#!/usr/bin/env python3
"""How fast bsbr_forward is against the same model in PyTorch with its fused causal attention, on the same cores.

Needs PyTorch, numpy and h5py. The model is one of bsbr_init with standard or hopfield attention (with --architecture all: both), or
bsbr, which is then held against standard attention of the same size in PyTorch. PyTorch runs it with one product for q, k and v and
torch.nn.functional.scaled_dot_product_attention(is_causal=True). Both are first compared number by number on a short sequence; then they
run in turn, since the speed of a machine drifts, and the median of the rounds' ratios is what counts.

    perf/compare_with_pytorch.py --programs build/release/apps
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import tempfile
import time

import h5py
import numpy as np
import torch
from torch.nn import functional


class TorchModel:
    """A model file in PyTorch; as standard attention whatever mechanism it has, but for hopfield's temperature."""

    def __init__(self, path):
        with h5py.File(path) as file:
            weights = {}
            file["weights"].visititems(lambda name, item: weights.update({name.replace("/", "."): torch.from_numpy(item[()]).float()})
                                       if isinstance(item, h5py.Dataset) else None)
            self.heads, self.layers = int(file.attrs["num_heads"]), int(file.attrs["num_layers"])
            temperature = float(file.attrs.get("temperature", 1.0))
        self.weights = weights
        self.hidden = weights["embedding.weight"].shape[1]
        self.scale = 1 / (temperature * math.sqrt(self.hidden / self.heads))
        self.projections = [tuple(torch.cat([weights[f"layers.{i}.attention.{name}_proj.{kind}"] for name in "qkv"])
                                  for kind in ("weight", "bias")) for i in range(self.layers)]

    def positions(self, length):
        """P [length, hidden], as docs/mathematics.md defines it."""
        column = torch.arange(self.hidden, dtype=torch.float64)
        angle = torch.arange(length, dtype=torch.float64)[:, None] * 10000.0 ** (-2 * (column // 2) / self.hidden)
        return torch.where(column % 2 == 0, torch.sin(angle), torch.cos(angle)).float()

    def attention(self, index, x):
        """x [tokens, hidden] -> the same"""
        qkv = functional.linear(x, *self.projections[index]).view(len(x), 3, self.heads, -1).permute(1, 2, 0, 3)
        q, k, v = (part[None] for part in qkv)  # [1, heads, tokens, head_dim]
        heads = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        return self.linear(f"layers.{index}.attention.out_proj", heads[0].transpose(0, 1).reshape(len(x), -1))

    def linear(self, name, x):
        return functional.linear(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def norm(self, name, x):
        return functional.layer_norm(x, (self.hidden,), self.weights[name + ".weight"], self.weights[name + ".bias"], 1e-5)

    @torch.inference_mode()
    def forward(self, ids):
        """ids [tokens] -> hidden states [tokens, hidden]"""
        x = self.weights["embedding.weight"][ids] + self.positions(len(ids))
        for i in range(self.layers):
            x = x + self.attention(i, self.norm(f"layers.{i}.layer_norm1", x))
            x = x + self.linear(f"layers.{i}.ff.3", functional.gelu(self.linear(f"layers.{i}.ff.0", self.norm(f"layers.{i}.layer_norm2", x))))
        return self.norm("layer_norm", x)

    def seconds(self, ids):
        start = time.perf_counter()
        self.forward(ids)
        return time.perf_counter() - start


class Programs:
    """bsbr_init and bsbr_forward, with files in a folder of their own."""

    def __init__(self, folder, arguments):
        self.path, self.folder, self.threads = arguments.programs, folder, arguments.threads

    def run(self, program, *options):
        environment = dict(os.environ, OMP_NUM_THREADS=str(self.threads), OMP_PROC_BIND="false")
        return subprocess.run([os.path.join(self.path, program), *map(str, options)], check=True, stdout=subprocess.PIPE, env=environment).stdout

    def file(self, name):
        return os.path.join(self.folder, name)

    def make_model(self, architecture, arguments):
        model = self.file(architecture + ".h5")
        own = ["--temperature", 0.7] if architecture == "hopfield" else []
        self.run("bsbr_init", "--output", model, "--architecture", architecture, "--hidden-dim", arguments.hidden_dim, "--num-heads",
                 arguments.num_heads, "--num-layers", arguments.num_layers, "--ff-dim", arguments.ff_dim, "--seed", 1, *own)
        return model

    def hidden_states(self, model, ids):
        with h5py.File(self.file("ids.h5"), "w") as file:
            file["input_ids"] = ids
        self.run("bsbr_forward", "--model", model, "--input", self.file("ids.h5"), "--output", self.file("result.h5"), "--quiet")
        with h5py.File(self.file("result.h5")) as file:
            return file["hidden_states"][0]

    def seconds(self, model, tokens):
        """Of one forward when its memory is set up."""
        summary = json.loads(self.run("bsbr_forward", "--model", model, "--random-tokens", tokens, "--repeat", 2, "--json", "-"))
        return summary["seconds_by_repeat"][-1]


def check_same(programs, model, torch_model):
    ids = np.random.default_rng(1).integers(0, 256, 700)
    difference = np.abs(programs.hidden_states(model, ids) - torch_model.forward(torch.from_numpy(ids)).numpy()).max()
    print(f"  the same numbers as in PyTorch: largest difference {difference:.1e} in 700 tokens")
    if not difference < 2e-4:
        raise SystemExit("compare_with_pytorch.py: error: the models are not the same: not timed")


def compare(programs, architecture, arguments):
    print(f"{architecture}:", flush=True)
    model = programs.make_model(architecture, arguments)
    torch_model = TorchModel(model)
    if architecture != "bsbr":
        check_same(programs, model, torch_model)
    ids = torch.randint(0, 256, (arguments.tokens,))
    torch_model.seconds(ids)
    rounds = []
    for _ in range(arguments.rounds):
        rounds.append((programs.seconds(model, arguments.tokens), torch_model.seconds(ids)))
        print(f"  bsbr_forward {rounds[-1][0]:8.3f} s   PyTorch {rounds[-1][1]:8.3f} s   {rounds[-1][1] / rounds[-1][0]:5.2f} times as fast", flush=True)
    ratios = [theirs / ours for ours, theirs in rounds]
    print(f"  {statistics.median(ratios):.2f} times as fast as PyTorch, median of {len(ratios)} ({min(ratios):.2f} to {max(ratios):.2f})")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", default="build/release/apps", help="folder of bsbr_init and bsbr_forward")
    parser.add_argument("--architecture", choices=["all", "standard", "hopfield", "bsbr"], default="all")
    for name, value in dict(tokens=8192, threads=os.cpu_count(), rounds=5, hidden_dim=512, num_heads=8, num_layers=4, ff_dim=2048).items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value, help="default %(default)s")
    return parser.parse_args()


def main():
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.tokens} tokens, width {arguments.hidden_dim}, {arguments.num_heads} heads, {arguments.num_layers} layers, float32, "
          f"{arguments.threads} threads; PyTorch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(folder, arguments)
        for architecture in ["standard", "hopfield"] if arguments.architecture == "all" else [arguments.architecture]:
            compare(programs, architecture, arguments)


if __name__ == "__main__":
    main()
