"""bsbr for Spack, from 0.23 on. docs/spack.md says how to use it."""
import json
import os

from spack.package import *

try:
    from spack_repo.builtin.build_systems.cmake import CMakePackage
    from spack_repo.builtin.build_systems.cuda import CudaPackage
    from spack_repo.builtin.build_systems.rocm import ROCmPackage
except ImportError:
    pass  # before Spack 1.0 they come with spack.package


class Bsbr(CMakePackage, CudaPackage, ROCmPackage):
    """Transformer models with block sparse attention with block retrieval over very long sequences, on Kokkos and MPI."""

    # The recipe lies in the repository that it builds, and Spack clones it from there. A copy of the recipe elsewhere must name an address.
    git = "file://" + os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))

    test_requires_compiler = True

    license("MIT")

    # There is no release yet. The first one adds a version here, with its tag, and takes `preferred` away from the branch.
    version("main", branch="main", preferred=True)

    variant("openmp", default=True, description="Use the cores of a host with OpenMP")
    variant("shared", default=True, description="Build a shared library")
    variant("tests", default=False, description="Build the tests, for --test=root")
    # Kokkos is compiled for one GPU architecture. These replace the variants of CudaPackage and ROCmPackage, which take several.
    variant("cuda_arch", default="none", values=("none", *CudaPackage.cuda_arch_values), multi=False, sticky=True, when="+cuda",
            description="CUDA architecture")
    variant("amdgpu_target", default="none", values=("none", *ROCmPackage.amdgpu_targets), multi=False, sticky=True, when="+rocm",
            description="AMD GPU architecture")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.22:", type="build")
    depends_on("cli11@1.9:", type="build")
    depends_on("nlohmann-json@3.7:", type="build")
    depends_on("googletest@1.10:+gmock", type="build", when="+tests")

    depends_on("mpi")
    depends_on("hdf5@1.10:")  # with or without +mpi: the library writes in parallel by itself
    depends_on("kokkos@3.4.01:5")
    depends_on("kokkos-kernels@3.4.01:5")
    depends_on("kokkos+openmp", when="+openmp")
    depends_on("kokkos+pic", when="+shared")

    # nvcc knows C++20 from 12.0 on, Kokkos' wrapper of it from 4.0.01 on. From 5.0 on Kokkos has lambdas for CUDA always.
    with when("+cuda"):
        depends_on("cuda@12:")
        depends_on("kokkos@4.0.01:+cuda+wrapper cxxstd=20")
        depends_on("kokkos@4.7.02:", when="^cuda@13:")  # before, it calls functions as CUDA 12 has them
        depends_on("kokkos+cuda_lambda", when="^kokkos@:4")
        depends_on("kokkos-kernels+cuda+cublas")
    with when("+rocm"):
        depends_on("kokkos@4.0.01:+rocm cxxstd=20")
        depends_on("kokkos-kernels+rocblas")

    # Kokkos Kernels has no variant for AMD's architectures: it takes that of the Kokkos that it stands on.
    for arch in CudaPackage.cuda_arch_values:
        depends_on(f"kokkos cuda_arch={arch}", when=f"+cuda cuda_arch={arch}")
        depends_on(f"kokkos-kernels cuda_arch={arch}", when=f"+cuda cuda_arch={arch}")
    for target in ROCmPackage.amdgpu_targets:
        depends_on(f"kokkos amdgpu_target={target}", when=f"+rocm amdgpu_target={target}")

    conflicts("+cuda", when="+rocm", msg="Kokkos is built for one sort of GPU: +cuda or +rocm")
    conflicts("+cuda", when="cuda_arch=none", msg="+cuda needs the architecture of the GPU, for example cuda_arch=90")
    conflicts("+rocm", when="amdgpu_target=none", msg="+rocm needs the architecture of the GPU, for example amdgpu_target=gfx90a")
    conflicts("%gcc@:10", msg="bsbr is C++20, with `using enum`: GCC from 11 on")
    conflicts("%clang@:12", msg="bsbr is C++20, with `using enum`: Clang from 13 on")

    def found_packages(self):
        """Options of CMake for exactly these packages, whatever else the machine has: a Kokkos in a cache, another HDF5, a second MPI."""
        spec = self.spec
        options = [
            self.define("Kokkos_ROOT", spec["kokkos"].prefix),
            self.define("KokkosKernels_ROOT", spec["kokkos-kernels"].prefix),
            self.define("HDF5_ROOT", spec["hdf5"].prefix),
            self.define("MPI_C_COMPILER", spec["mpi"].mpicc),
            self.define("MPI_CXX_COMPILER", spec["mpi"].mpicxx),
        ]
        # The compiler follows Kokkos, so that `bsbr ^kokkos+cuda+wrapper` need not say +cuda twice.
        if spec.satisfies("^kokkos+wrapper"):
            options.append(self.define("CMAKE_CXX_COMPILER", spec["kokkos"].prefix.bin.nvcc_wrapper))
        elif spec.satisfies("^kokkos+rocm"):
            options.append(self.define("CMAKE_CXX_COMPILER", spec["hip"].prefix.bin.hipcc))
        return options

    def cmake_args(self):
        return [
            *self.found_packages(),
            self.define_from_variant("BUILD_SHARED_LIBS", "shared"),
            self.define_from_variant("BSBR_ENABLE_TESTS", "tests"),
            self.define("BSBR_ENABLE_PROGRAMS", True),
            self.define("BSBR_ENABLE_PERF", False),
            self.define("BSBR_NATIVE", False),  # Spack's compiler wrappers choose the instructions
            self.define("BSBR_CPU_LEVELS", self.is_for_any_cpu()),
        ]

    def is_for_any_cpu(self):
        """Whether the library is to choose the instructions when a program starts: it is shared, and the target is no one CPU."""
        return self.spec.satisfies("+shared ~cuda ~rocm") and str(self.spec.target) in ("x86_64", "x86_64_v2")

    @run_after("install")
    def keep_examples(self):
        """Keeps the examples for `spack test run`, which has no sources."""
        cache_extra_test_sources(self, "examples")

    def check_forward(self, *launcher):
        """Makes a small model, runs it over random tokens, and compares the result with the reference implementation."""
        Executable(self.prefix.bin.bsbr_init)("--output", "model.h5", "--architecture", "bsbr", "--hidden-dim", "32", "--num-heads", "4",
                                              "--ff-dim", "64", "--num-layers", "2", "--chunk-size", "16")
        program, *options = [*launcher, self.prefix.bin.bsbr_forward, "--model", "model.h5", "--random-tokens", "100", "--precision",
                             "double", "--verify", "--json", "summary.json", "--output", "result.h5"]
        Executable(program)(*options)
        with open("summary.json", encoding="utf-8") as file:
            difference = json.load(file)["verify"]["largest_difference"]
        if not difference <= 1e-10:
            raise RuntimeError(f"the result differs from the reference by {difference}, more than 1e-10")

    def launcher(self):
        """The MPI's mpirun. Where there is none (Slurm's srun starts jobs, for example), the test that needs it is skipped."""
        mpirun = which("mpirun", "mpiexec", path=self.spec["mpi"].prefix.bin)
        if mpirun is None:
            raise SkipTest("the MPI has no mpirun")
        return mpirun.path

    def test_forward(self):
        """a process that is started alone gives what the reference gives"""
        self.check_forward()

    def test_forward_with_ranks(self):
        """two ranks give what the reference gives"""
        self.check_forward(self.launcher(), "-n", "2")

    def test_examples(self):
        """programs of others find the installed library, and run"""
        cmake = self.spec["cmake"].prefix.bin
        source = join_path(self.test_suite.current_test_cache_dir, "examples")
        Executable(cmake.cmake)("-S", source, "-B", "examples", self.define("bsbr_ROOT", self.prefix), *self.found_packages())
        Executable(cmake.cmake)("--build", "examples")
        Executable(cmake.ctest)("--test-dir", "examples", "--output-on-failure")
