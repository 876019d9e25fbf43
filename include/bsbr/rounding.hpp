// What factors of matrix products are rounded to.
#pragma once

namespace bsbr {

/// What the factors of a model's products with weights are rounded to, and its queries, keys and values. All else is
/// computed in the model's own numbers: docs/mathematics.md, "bfloat16".
enum class Rounding {
  none,     ///< they are not rounded
  bfloat16  ///< bfloat16, which has 8 bits of significand: to nearest, ties to even. Of a model in float
};

}  // namespace bsbr
