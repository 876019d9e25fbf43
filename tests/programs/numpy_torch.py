"""The functions of PyTorch that the models of perf/compare_with_peers.py use, in NumPy: their forwards can be tested without PyTorch. There
is no autograd."""
import contextlib
import math
import types

import numpy as np

__version__, float32, float64, bfloat16 = "of NumPy", np.float32, np.float64, "bfloat16"
_erf = np.vectorize(math.erf, otypes=[np.float64])


class Tensor(np.ndarray):
    device = "cpu"

    def view(self, *shape):
        return self.reshape(shape) if isinstance(shape[0], int) else np.ndarray.view(self, *shape)

    def permute(self, *order):
        return np.transpose(self, order)

    def transpose(self, one, other):
        return np.swapaxes(self, one, other)

    def flatten(self, first):
        return self.reshape(*self.shape[:first], -1)

    def float(self):
        return self.to(float32)

    def to(self, dtype):
        """NumPy has no bfloat16: in the place of such numbers are floats that have been rounded to it."""
        if dtype != bfloat16:
            return self.astype(dtype)
        bits = self.astype(np.float32).view(np.ndarray).view(np.uint32)
        return from_numpy(((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32))

    def numpy(self):
        return np.asarray(self)


def from_numpy(array):
    return np.asarray(array).view(Tensor)


def arange(count, dtype, device):
    return from_numpy(np.arange(count, dtype=dtype))


def cat(parts):
    return from_numpy(np.concatenate(parts))


def where(condition, one, other):
    return from_numpy(np.where(condition, one, other))


sin, cos, zeros_like = np.sin, np.cos, np.zeros_like
inference_mode = contextlib.nullcontext
backends = types.SimpleNamespace(cpu=types.SimpleNamespace(get_cpu_capability=lambda: "NumPy"))


def set_num_threads(count):
    pass


class functional:
    @staticmethod
    def embedding(ids, weight):
        return weight[ids]

    @staticmethod
    def linear(x, weight, bias=0):
        return x @ weight.T + bias

    @staticmethod
    def gelu(x):
        return x * (0.5 * (1 + _erf(x / math.sqrt(2)))).astype(x.dtype)

    @staticmethod
    def layer_norm(x, shape, weight, bias, epsilon):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + epsilon) * weight + bias

    @staticmethod
    def pad(x, widths):
        """Of each axis, the last one first: zeros before it and behind it."""
        by_axis = [(0, 0)] * (x.ndim - len(widths) // 2) + list(zip(widths[::2], widths[1::2]))[::-1]
        return from_numpy(np.pad(x, by_axis))

    @staticmethod
    def scaled_dot_product_attention(q, k, v, is_causal, scale):
        assert is_causal
        scores = scale * q @ np.swapaxes(k, -1, -2)
        scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        return from_numpy(powers / powers.sum(-1, keepdims=True)) @ v


nn = types.SimpleNamespace(functional=functional)
