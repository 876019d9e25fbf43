"""Spack's recipe, spack/packages/bsbr/package.py, against CMakeLists.txt: without Spack, network or anything that is built."""
import itertools
import os
import re
import unittest

from stand_in import CudaPackage, ROCmPackage, Spec, read_recipe

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
RECIPE = os.path.join(ROOT, "spack", "packages", "bsbr", "package.py")

# Options that are not this project's: CMake's own, and those of the packages that it looks for.
OF_CMAKE = {"BUILD_SHARED_LIBS", "CMAKE_CXX_COMPILER", "MPI_C_COMPILER", "MPI_CXX_COMPILER"}


def text_of(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def cmake_options():
    return set(re.findall(r"^option\((BSBR_\w+)", text_of("CMakeLists.txt"), re.MULTILINE))


def found_packages():
    """Those that the build cannot do without: pkg-config only helps to find HDF5, and threads come with the compiler."""
    text = text_of("cmake", "dependencies.cmake") + text_of("cmake", "find_hdf5.cmake")
    return set(re.findall(r"find_package\((\w+)", text)) - {"PkgConfig", "Threads"}


def concrete(gpu=None, **changes):
    """A spec of bsbr as Spack would hand it to the recipe; gpu: "cuda" or "rocm"."""
    variants = {"openmp": True, "shared": True, "tests": False, "cuda": gpu == "cuda", "rocm": gpu == "rocm", **changes}
    kokkos = Spec("kokkos", {"wrapper": gpu == "cuda", "cuda": gpu == "cuda", "rocm": gpu == "rocm"})
    others = [Spec(name) for name in ("kokkos-kernels", "hdf5", "mpi", *(["hip"] if gpu == "rocm" else []))]
    return Spec("bsbr", variants, [kokkos, *others])


class Recipe(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.module, cls.said = read_recipe(RECIPE)

    def arguments(self, *arguments, **keywords):
        """cmake_args() as {name: value}."""
        found = self.module.Bsbr(concrete(*arguments, **keywords)).cmake_args()
        pairs = [re.fullmatch(r"-D(\w+):\w+=(.*)", one).groups() for one in found]
        self.assertEqual(len(dict(pairs)), len(pairs), "an option is given twice")
        return dict(pairs)

    def dependencies(self, name):
        """[(what is asked of the package, when)]"""
        found = self.said.of("depends_on")
        return [(asked[len(name):].strip(), keywords["when"]) for asked, keywords in found if re.match(name + r"(?![\w-])", asked)]

    def variants(self):
        return {name for name, _ in self.said.of("variant")} | {"cuda", "rocm"}  # the last two by CudaPackage and ROCmPackage

    def test_every_option_that_is_given_exists(self):
        known = cmake_options() | OF_CMAKE | {f"{name}_ROOT" for name in found_packages()}
        for gpu, openmp, shared, tests in itertools.product((None, "cuda", "rocm"), *[(False, True)] * 3):
            given = set(self.arguments(gpu, openmp=openmp, shared=shared, tests=tests))
            self.assertLessEqual(given, known)

    def test_every_variant_changes_what_is_built(self):
        """It changes an option of CMake, or what is asked of Kokkos, which decides for the project."""
        for variant, keywords in self.said.of("variant"):
            if keywords["when"]:
                continue  # the architectures, below
            handed_on = any(f"+{variant}" in when for _, when in self.dependencies("kokkos"))
            changed = self.arguments(**{variant: True}) != self.arguments(**{variant: False})
            self.assertTrue(handed_on or changed, variant)

    def test_variants_are_those_that_the_documentation_names(self):
        section = text_of("docs", "spack.md").partition("\n## Variants\n")[2].partition("\n## ")[0]
        self.assertEqual(self.variants(), set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)))

    def test_shared_and_tests_are_the_options_of_these_names(self):
        for value, text in ((True, "ON"), (False, "OFF")):
            self.assertEqual(self.arguments(shared=value)["BUILD_SHARED_LIBS"], text)
            self.assertEqual(self.arguments(tests=value)["BSBR_ENABLE_TESTS"], text)

    def test_instructions_are_left_to_spack(self):
        self.assertEqual(self.arguments()["BSBR_NATIVE"], "OFF")

    def test_the_version_of_the_project_is_offered_once_it_is_released(self):
        version = re.search(r"project\(bsbr VERSION (\S+)", text_of("CMakeLists.txt")).group(1)
        unreleased = re.search(rf"^## {re.escape(version)} \(unreleased\)$", text_of("CHANGELOG.md"), re.MULTILINE)
        tags = {name: keywords["tag"] for name, keywords in self.said.of("version") if "tag" in keywords}
        self.assertEqual(tags.get(version), None if unreleased else f"v{version}")
        self.assertEqual(dict(self.said.of("version"))["main"]["branch"], "main")

    def test_sources_come_from_the_repository_of_the_recipe(self):
        self.assertEqual(self.module.Bsbr.git, f"file://{ROOT}")

    def test_every_package_that_cmake_looks_for_is_a_dependency(self):
        names = {"CLI11": "cli11", "nlohmann_json": "nlohmann-json", "GTest": "googletest", "KokkosKernels": "kokkos-kernels",
                 "CUDAToolkit": "cuda"}
        for package in found_packages():
            self.assertTrue(self.dependencies(names.get(package, package.lower())), package)

    def test_the_oldest_kokkos_is_the_one_that_cmake_takes(self):
        for package, name in (("Kokkos", "kokkos"), ("KokkosKernels", "kokkos-kernels")):
            least = re.search(rf"find_package\({package} (\S+)", text_of("cmake", "dependencies.cmake")).group(1)
            ranges = [asked for asked, when in self.dependencies(name) if asked.startswith("@") and not when]
            self.assertEqual(len(ranges), 1)
            self.assertRegex(ranges[0], rf"^@{re.escape(least)}(\.\d+)?:5$")

    def test_cmake_is_as_new_as_the_project_wants(self):
        least = re.search(r"cmake_minimum_required\(VERSION (\S+)\)", text_of("CMakeLists.txt")).group(1)
        self.assertIn((f"@{least}:", ""), self.dependencies("cmake"))

    def test_every_cuda_architecture_is_handed_on(self):
        for arch in CudaPackage.cuda_arch_values:
            for name in ("kokkos", "kokkos-kernels"):
                self.assertIn((f"cuda_arch={arch}", f"+cuda cuda_arch={arch}"), self.dependencies(name))
        self.assertTrue(any("+cuda" in asked and when == "+cuda" for asked, when in self.dependencies("kokkos-kernels")))

    def test_every_amd_architecture_is_handed_on(self):
        for target in ROCmPackage.amdgpu_targets:
            self.assertIn((f"amdgpu_target={target}", f"+rocm amdgpu_target={target}"), self.dependencies("kokkos"))

    def test_each_gpu_has_its_vendors_blas(self):
        for gpu, blas in (("cuda", "cublas"), ("rocm", "rocblas")):
            self.assertTrue(any(f"+{blas}" in asked and when == f"+{gpu}" for asked, when in self.dependencies("kokkos-kernels")), gpu)

    def test_one_architecture_is_taken(self):
        for variant, known in (("cuda_arch", CudaPackage.cuda_arch_values), ("amdgpu_target", ROCmPackage.amdgpu_targets)):
            keywords = dict(self.said.of("variant"))[variant]
            self.assertFalse(keywords["multi"])
            self.assertEqual(keywords["values"], ("none", *known))

    def test_the_compiler_is_that_of_kokkos(self):
        self.assertNotIn("CMAKE_CXX_COMPILER", self.arguments())
        self.assertEqual(self.arguments("cuda")["CMAKE_CXX_COMPILER"], "/opt/kokkos/bin/nvcc_wrapper")
        self.assertEqual(self.arguments("rocm")["CMAKE_CXX_COMPILER"], "/opt/hip/bin/hipcc")

    def test_the_compiler_is_that_of_kokkos_also_where_only_kokkos_is_told_of_the_gpu(self):
        spec = concrete("cuda", cuda=False)
        self.assertIn("-DCMAKE_CXX_COMPILER:STRING=/opt/kokkos/bin/nvcc_wrapper", self.module.Bsbr(spec).cmake_args())

    def test_two_sorts_of_gpu_and_a_gpu_without_architecture_are_refused(self):
        refused = {(what, keywords["when"]) for what, keywords in self.said.of("conflicts")}
        for conflict in (("+cuda", "+rocm"), ("+cuda", "cuda_arch=none"), ("+rocm", "amdgpu_target=none"), ("%gcc@:10", "")):
            self.assertIn(conflict, refused)

    def test_every_conflict_says_why(self):
        for what, keywords in self.said.of("conflicts"):
            self.assertTrue(keywords.get("msg"), what)

    def test_spack_before_1_0_reads_the_same(self):
        module, said = read_recipe(RECIPE, new=False)
        self.assertEqual(said.said, self.said.said)
        self.assertEqual(module.Bsbr(concrete()).cmake_args(), self.module.Bsbr(concrete()).cmake_args())

    def test_environments_name_variants_that_exist(self):
        for name in ("cpu", "cuda", "rocm"):
            text = text_of("spack", "environments", name, "spack.yaml")
            spec = re.search(r"^ *- bsbr (.*)$", text, re.MULTILINE).group(1)
            self.assertLessEqual({word.lstrip("+~").partition("=")[0] for word in spec.split()}, self.variants())
            self.assertIn("- $env/../..", text)  # the repository, seen from the environment


if __name__ == "__main__":
    unittest.main()
