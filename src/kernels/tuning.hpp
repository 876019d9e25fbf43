// Tile, team and panel sizes, by backend. None of these changes what is computed; the ones marked "bits" decide in which order sums are
// formed or values rounded, so that results of two builds with other values differ in the last digits. Two sizes are elsewhere: the tile of
// a product is that of the CPU at run time (product_tile.hpp; no bits), and a row is summed in 16 lanes (compat.hpp: bits).
#pragma once

#include "kernels/compat.hpp"

namespace bsbr::kernels::tuning {

/// Rows that go through a chain of big products together. On a host they and their results should fit a core's second-level cache; on a GPU
/// one BLAS call serves all of them. Where a host stands in for a GPU they are few, so that short sequences have several.
inline constexpr int panel_rows = on_host ? 192 : device_bodies_on_host ? 256 : 8192;

/// Room for cublasLt, in bytes: what NVIDIA advises for its largest GPUs.
inline constexpr std::int64_t product_workspace_bytes = on_cuda ? 32 << 20 : 0;

/// A block of a weight that all rows of a panel meet before the next one: columns of the product, and numbers of the sum (bits). 512 KiB in
/// float, about half of a second-level cache.
inline constexpr int product_columns = 256, product_depth = 512;

/// Queries and keys of a softmax tile (keys: bits).
inline constexpr int query_tile = on_host ? 64 : 32;
inline constexpr int key_tile = on_host ? 64 : 32;

/// Tiles of queries that one team takes, so that keys are fetched once for all: at most this many, in no more than this memory, and no more
/// than leaves some teams for each thread.
inline constexpr int most_query_tiles = on_host ? 4 : 1;
inline constexpr std::int64_t softmax_bytes = 512 << 10;
inline constexpr int teams_per_thread = 4;

/// Tokens that are added up at a time when a state is formed, and the rows that one team takes when a state is applied (the former:
/// bits).
inline constexpr int state_tile = on_host ? 64 : 32;

/// A state that does not fit into a GPU's shared memory is formed and applied in blocks of some columns, but not of fewer than these.
inline constexpr int least_state_columns = 16;

/// Columns of a running state that one team carries along the sequence.
inline constexpr int scan_columns = on_host ? 64 : 32;

/// Messages in which a running state goes to the next rank, at most: small parts fill the pipeline, each has its latency.
inline constexpr int carry_messages = 64;

/// Numbers of a state that are mixed as one value row, and that ranks deal out among themselves. On a GPU a tile of them has to fit into
/// shared memory.
inline constexpr int state_block = on_host ? 512 : 128;

/// Room for mixed states, in double precision: all blocks are mixed in as many rounds as that takes.
inline constexpr std::int64_t mixed_bytes = std::int64_t{1} << 27;

/// Parts of the work that hides messages. Between a host's parts MPI gets to go on; while a GPU works, all the time.
inline constexpr int overlapped_parts = on_host ? 8 : 2;

/// Tokens whose positions are formed from one angle (bits).
inline constexpr int position_tile = 256;

/// Scratch of a team that is put into a GPU's shared memory; larger ones go to ordinary memory. Every GPU has 48 KiB for a block, less
/// what Kokkos and alignment take.
inline constexpr std::int64_t shared_bytes = 46 << 10;

/// Threads of a team: one on a host, 128 on a GPU; where a host stands in for a GPU, as many as the host has, but no more than this.
inline constexpr int team_size = on_host ? 1 : device_bodies_on_host ? 8 : 128;

/// Elements of a product that a GPU's thread forms at a time: 4 + 2 loads serve 8 multiply-adds, and 32 × 32 elements 128 threads.
inline constexpr int device_tile_rows = 4, device_tile_columns = 2;

/// Widest vectors that a host's compiler may use, in bytes, and how many of them a micro-tile of a product holds.
#if defined(__AVX512F__)
inline constexpr int host_vector_bytes = 64, host_micro_vectors = 4;  // 24 sums, 4 columns, 1 broadcast: 29 of 32 registers
#elif defined(__AVX__)
inline constexpr int host_vector_bytes = 32, host_micro_vectors = 2;  // 12 + 2 + 1 of 16 registers
#else
inline constexpr int host_vector_bytes = 16, host_micro_vectors = 2;
#endif

/// A GPU's are fixed, whatever the host's instructions are: host and device both compute from them how much scratch a team has.
inline constexpr int vector_bytes = on_host ? host_vector_bytes : 16;
inline constexpr int micro_rows = 6, micro_vectors = on_host ? host_micro_vectors : 1;

}  // namespace bsbr::kernels::tuning
