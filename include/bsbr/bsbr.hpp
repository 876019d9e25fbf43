// Includes all public headers.
#pragma once

#include "bsbr/attention.hpp"
#include "bsbr/checkpoint.hpp"
#include "bsbr/config.hpp"
#include "bsbr/error.hpp"
#include "bsbr/function.hpp"
#include "bsbr/gradient.hpp"
#include "bsbr/io.hpp"
#include "bsbr/kokkos.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/mask.hpp"
#include "bsbr/model.hpp"
#include "bsbr/nonfinite.hpp"
#include "bsbr/parallel.hpp"
#include "bsbr/partition.hpp"
#include "bsbr/piece_loss.hpp"
#include "bsbr/profile.hpp"
#include "bsbr/rounding.hpp"
#include "bsbr/sampling.hpp"
#include "bsbr/sequence.hpp"
#include "bsbr/stream.hpp"
#include "bsbr/stream_file.hpp"
#include "bsbr/timeout.hpp"
#include "bsbr/token_pieces.hpp"
#include "bsbr/training.hpp"
#include "bsbr/training_data.hpp"
#include "bsbr/types.hpp"
#include "bsbr/version.hpp"
#include "bsbr/weights.hpp"

/// The library: attentions, layers and models for sequences that are divided among the ranks of a communicator.
namespace bsbr {}
