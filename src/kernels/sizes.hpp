// Sizes of tiles, panels and teams: one struct for each backend, and the only place of such sizes. tuning.hpp chooses
// among them.
//
// None of them changes what is computed. Those of the first group of a struct decide in which order sums are formed or
// values rounded, so that results of two builds with other values differ in the last digits. All are static members of
// an integral type, which a GPU's code may use. Includes no other header, since product_tile.hpp is compiled for
// several sets of instructions.
#pragma once

#include <cstdint>

namespace bsbr::kernels {

// ---- A CPU's registers, and the tile of a product that they hold: rows · vectors sums, `vectors` of b, one element of
// a ---------------

struct Avx512Registers {  // 29 of 32
  static constexpr int vector_bytes = 64, micro_rows = 6, micro_vectors = 4;
};
struct AvxRegisters {  // 15 of 16
  static constexpr int vector_bytes = 32, micro_rows = 6, micro_vectors = 2;
};
struct SseRegisters {  // 15 of 16
  static constexpr int vector_bytes = 16, micro_rows = 6, micro_vectors = 2;
};
struct NeonRegisters {  // also VSX: 29 of 32
  static constexpr int vector_bytes = 16, micro_rows = 6, micro_vectors = 4;
};

/// Of the CPU that a file is compiled for: not the same one in all of a program's files.
#if defined(__AVX512F__)
using CpuRegisters = Avx512Registers;
#elif defined(__AVX__)
using CpuRegisters = AvxRegisters;
#elif defined(__x86_64__)
using CpuRegisters = SseRegisters;
#else
using CpuRegisters = NeonRegisters;
#endif

// ---- Backends -------------------------------------------------------------------------------------------------------

/// What is the same everywhere.
struct CommonSizes {
  // Decide bits.

  /// Tokens whose positions are formed from one angle.
  static constexpr int position_tile = 128;

  /// Tokens of a segment of a scan, about.
  static constexpr int scan_segment = 1024;

  /// Rows of delta_net's triangular system that are solved one after the other; a product does what lies to the left of
  /// them.
  static constexpr int delta_rule_rows = 6;

  /// Ids whose logits are formed, and added up, at a time: no more of a row's logits are ever kept.
  static constexpr int vocabulary_block = 1024;

  /// Rows of a leaf that are summed in one chain, for the gradients of biases and norms.
  static constexpr int summed_rows = 32;

  /// Leaves of a sequence, over which gradients are summed: about so many, or more of up to so many tokens each.
  static constexpr int gradient_leaves = 16, gradient_leaf_tokens = 1024;

  /// Elements whose squares are summed together for the norm of a gradient. Ranks own whole blocks of so many.
  static constexpr int norm_block = 256;

  // Decide no bits.

  /// Teams that each thread should have, so that a slow one holds up few; and groups of neighbouring softmax teams,
  /// whose work differs: the last ones of a causal triangle have most of it.
  static constexpr int teams_per_thread = 4, softmax_groups_per_thread = 8 * teams_per_thread;

  /// Tiles of queries that a team takes together use no more memory than this.
  static constexpr std::int64_t softmax_bytes = 512 << 10;

  /// The parts of running states are scanned one segment after the other, in one pass, unless more of the threads'
  /// time than this would be idle: two passes over several segments at a time are a third more work.
  static constexpr int idle_percent = 25;

  /// Room for mixed states, in double precision: all blocks are mixed in as many rounds as that takes.
  static constexpr std::int64_t mixed_bytes = std::int64_t{1} << 27;

  /// Rounds in which the chunks of a block of states are dealt out to the ranks that share it, where there are so many
  /// chunks: the last of these ranks has about 1/16 more of a causal triangle than the mean.
  static constexpr int mixing_rounds = 16;

  /// What caches load at a time; pieces of scratch begin at a multiple of it.
  static constexpr int cache_line_bytes = 64;
};

/// Threads of a host: a team is one thread, whose inner loops vectorise. A template, since files that are compiled for
/// other instructions must not have another struct of the same name.
template <class Registers>
struct HostSizesWith : CommonSizes, Registers {
  // Decide bits.

  /// Keys of a softmax tile; queries of one in the gradient of keys.
  static constexpr int key_tile = 64;

  /// Tokens that are added up at a time when a state is formed or carried along.
  static constexpr int state_tile = 64;

  /// Elements of the sum of a product that are added up in one chain. With product_columns a block of a weight of 512
  /// KiB in float, about half of a second-level cache.
  static constexpr int product_depth = 512;

  /// Partial sums of the elements of a row, which vectorise.
  static constexpr int sum_lanes = 16;

  // Decide no bits.

  /// Weights that a thread updates at a time.
  static constexpr int adamw_tile = 64;

  /// Rows that go through a chain of big products together: they and their results should fit a core's second-level
  /// cache.
  static constexpr int panel_rows = 192;

  /// Columns of a product in a block of a weight, which all rows of a panel meet before the next block.
  static constexpr int product_columns = 256;

  /// Tiles of rows, or fewer, all of which meet a tile of columns of a weight before the next one: so few that the
  /// product may be limited by how fast the weight is read.
  static constexpr int few_row_tiles = 16;

  /// Columns that a thread takes where threads share out columns; elements of a long array that it takes at a time.
  static constexpr int thread_columns = 128, thread_elements = 4096;

  /// Elements that one thread copies: fewer are not worth waking others.
  static constexpr int elements_of_one_thread = 16384;

  /// Groups of ids of which threads add up the embedding's gradient.
  static constexpr int id_groups = 8;

  /// Tiles of a factor that are packed together: some cache lines of each row.
  static constexpr int packed_tiles = 4;

  /// Rows of the factors of a weight's gradient that are packed together, with product_columns of their columns.
  static constexpr int packed_rows = 64;

  /// Tiles of rows of a weight's gradient that meet a block of product_columns columns one after the other.
  static constexpr int outer_tiles = 16;

  /// Queries of a softmax tile, keys in the gradient of keys; how many a forward's team takes, to fetch keys but once.
  static constexpr int query_tile = 64, most_query_tiles = 4;

  /// Queries of a group that are computed one by one rather than in tiles; for one, how many vectors of keys are scored
  /// side by side, and how many of a value's columns are summed.
  static constexpr int few_queries = 4, scored_vectors = 2, value_vectors = 8;

  /// Columns of a running state that one team carries along the sequence.
  static constexpr int scan_columns = 64;

  /// Elements of a state that are mixed as one value row, and that ranks deal out among themselves.
  static constexpr int state_block = 512;

  /// Vectors of a row of a state that is formed without scratch.
  static constexpr int flat_state_vectors = 4;

  /// Parts of the work that hides messages: between them MPI gets to go on.
  static constexpr int overlapped_parts = 8;

  static constexpr int team_size = 1;

  /// Without meaning: all scratch is ordinary memory, and there is no BLAS.
  static constexpr std::int64_t shared_bytes = 0, product_workspace_bytes = 0;
};
using HostSizes = HostSizesWith<CpuRegisters>;

/// A GPU, where teams have many threads. Nothing here depends on the host's instructions: host and device both compute
/// from it how much scratch a team has.
struct GpuSizes : CommonSizes {
  // Decide bits.

  static constexpr int key_tile = 32, state_tile = 32;

  /// Threads of a team: rows are summed by all of them.
  static constexpr int team_size = 128;

  /// Threads that form the weights of one query: each sums its share of the keys of a tile.
  static constexpr int query_sharers = 4;

  /// Scratch of a team that is put into shared memory; tiles are made smaller so that it fits, and larger ones go to
  /// ordinary memory. Every GPU has 48 KiB for a block, less what Kokkos and alignment take.
  static constexpr std::int64_t shared_bytes = 46 << 10;

  /// Rows that one call of the BLAS multiplies. Its bits may depend on how many there are.
  static constexpr int panel_rows = 8192;

  // Decide no bits.

  /// Elements of a product that a thread forms at a time: 4 + 2 loads serve 8 multiply-adds, and 32 × 32 elements 128
  /// threads.
  static constexpr int device_tile_rows = 4, device_tile_columns = 2;

  /// Threads side by side read neighbours.
  static constexpr int thread_columns = 1, thread_elements = 1;

  static constexpr int id_groups = 32;

  static constexpr int query_tile = 32, most_query_tiles = 1;
  static constexpr int scan_columns = 32;

  /// A tile of such blocks has to fit into shared memory.
  static constexpr int state_block = 128;

  /// A state that does not fit into shared memory is formed and applied in blocks of some columns, but not of fewer
  /// than these.
  static constexpr int least_state_columns = 16;

  /// Neighbouring elements of a row that threads side by side read where rows are transposed: whole sectors of memory.
  static constexpr int transposed_run = 8;

  /// MPI goes on all the time while the GPU works.
  static constexpr int overlapped_parts = 2;

  /// Rows of tiles are padded to this.
  static constexpr int vector_bytes = 16;

  /// Room for the BLAS, in bytes.
  static constexpr std::int64_t product_workspace_bytes = 0;
};

struct CudaSizes : GpuSizes {
  /// For cublasLt: what NVIDIA advises for its largest GPUs.
  static constexpr std::int64_t product_workspace_bytes = 32 << 20;
};

struct HipSizes : GpuSizes {};

/// A host's threads that stand in for a GPU, in tests: teams no larger than the host has threads, and several panels
/// and segments of short sequences.
struct DeviceBodiesSizes : GpuSizes {
  static constexpr int team_size = 8, panel_rows = 256, scan_segment = 128;
};

}  // namespace bsbr::kernels
