"""A stand-in for Spack that is enough to import a recipe: directives are recorded, and cmake_args() can be asked for any spec.

It knows nothing of Spack's concretiser: scripts/check-spack asks the real one.
"""
import contextlib
import importlib.util
import itertools
import os
import sys
import types
import unittest.mock

DIRECTIVES = ("version", "variant", "depends_on", "conflicts", "license", "maintainers", "requires")


class Recorder:
    """What the class body of a recipe has said: a list of (directive, arguments, keywords), `when` of the surrounding `with` included."""

    def __init__(self):
        self.said, self.conditions = [], []

    def directive(self, name):
        def record(*arguments, **keywords):
            when = " ".join([*self.conditions, keywords.pop("when", "")]).strip()
            self.said.append((name, arguments, {**keywords, "when": when}))
        return record

    @contextlib.contextmanager
    def when(self, condition):
        self.conditions.append(condition)
        yield
        self.conditions.pop()

    def of(self, name):
        return [(arguments[0] if arguments else None, keywords) for said, arguments, keywords in self.said if said == name]


class Prefix(str):
    """A path whose attributes are paths below it, as Spack's are."""

    def __getattr__(self, name):
        return Prefix(os.path.join(self, name))


class Spec:
    """A concrete spec: variants by name, and other specs that it depends on."""

    def __init__(self, name, variants=None, dependencies=()):
        self.name, self.variants = name, dict(variants or {})
        self.dependencies = {one.name: one for one in dependencies}
        self.prefix = Prefix(f"/opt/{name}")
        self.mpicc, self.mpicxx = self.prefix.bin.mpicc, self.prefix.bin.mpicxx

    def __getitem__(self, name):
        return self.dependencies[name]

    def satisfies(self, text):
        """+variant, ~variant, or the same of a dependency: ^name+variant."""
        if text.startswith("^"):
            name, sign, variant = next((name, sign, rest) for sign in "+~" for name, found, rest in [text[1:].partition(sign)] if found)
            return name in self.dependencies and self.dependencies[name].satisfies(sign + variant)
        assert text[0] in "+~", f"the stand-in for Spack does not understand {text}"
        return bool(self.variants.get(text[1:], False)) == (text[0] == "+")


class CMakePackage:
    def __init__(self, spec):
        self.spec, self.prefix = spec, spec.prefix

    def define(self, name, value):
        if isinstance(value, bool):
            return f"-D{name}:BOOL={'ON' if value else 'OFF'}"
        return f"-D{name}:STRING={value}"

    def define_from_variant(self, name, variant):
        return self.define(name, self.spec.variants[variant])


class CudaPackage:
    cuda_arch_values = ("70", "80", "90", "90a")


class ROCmPackage:
    amdgpu_targets = ("gfx908", "gfx90a", "gfx90a:xnack+", "gfx942")


BUILD_SYSTEMS = {"cmake": CMakePackage, "cuda": CudaPackage, "rocm": ROCmPackage}


def modules(recorder, new):
    """Spack's modules by name: those of Spack from 1.0 on if `new`, else those before."""
    package = types.ModuleType("spack.package")
    names = {name: recorder.directive(name) for name in DIRECTIVES}
    names.update(when=recorder.when, run_after=lambda phase: lambda function: function)
    for name in ("Executable", "SkipTest", "cache_extra_test_sources", "which", "join_path", "working_dir"):
        names[name] = unittest.mock.Mock(name=name)
    if not new:
        names.update((one.__name__, one) for one in BUILD_SYSTEMS.values())
    vars(package).update(names)
    found = {"spack": types.ModuleType("spack"), "spack.package": package, "spack_repo": None}  # None: cannot be imported
    if new:
        path = "spack_repo.builtin.build_systems".split(".")
        found.update((".".join(path[:length]), types.ModuleType(path[length - 1])) for length in range(1, len(path) + 1))
        for name, one in BUILD_SYSTEMS.items():
            found[f"spack_repo.builtin.build_systems.{name}"] = module = types.ModuleType(name)
            setattr(module, one.__name__, one)
    return found


_numbers = itertools.count()


def read_recipe(path, new=True):
    """-> (the module, what its class has said)."""
    recorder = Recorder()
    with unittest.mock.patch.dict(sys.modules, modules(recorder, new)):
        spec = importlib.util.spec_from_file_location(f"recipe_{next(_numbers)}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module, recorder
