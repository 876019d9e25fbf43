// /training of a checkpoint, but for the moments: where training stands, its options and its log.
#pragma once

#include "bsbr/checkpoint.hpp"
#include "io/input_file.hpp"
#include "io/output_file.hpp"

namespace bsbr::io {

inline constexpr const char* training_group = "/training";

/// Makes the group. Throws ContentError for a record that could not be read again.
void write_record(hid_t file, const TrainingRecord& record);

/// Datasets and bytes that it takes.
std::int64_t record_datasets();
std::int64_t record_bytes(const TrainingRecord& record);

/// Reads it. Throws ContentError if it is missing, or something in it is not what it must be.
TrainingRecord read_record(const InputFile& file);

/// The steps that a checkpoint says were taken. Throws ContentError.
std::int64_t read_step(const InputFile& file);

}  // namespace bsbr::io
